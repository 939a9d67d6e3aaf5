import type { AgentSettings } from '../contract/agent-settings.ts';
import { changeSettings, settingChanges, settingsOfReload } from '../contract/change-settings.ts';
import type { AgentConfig } from '../contract/config.ts';
import type { Say } from '../contract/ports.ts';
import type { Agent } from './agent.ts';

export type LiveSettings = {
  /**
   * Some settings are to hold from now on; answers all. @throws ConfigError, and everything stays, as `changeSettings`
   */
  readonly change: (change: Readonly<Record<string, unknown>>) => AgentSettings;
  /**
   * The configuration was loaded again. What is as it was in the file leaves alone what was set live; other settings replace
   * all of it, and what they replace is said. @throws ConfigError, and everything stays, as `settingsOfReload`
   */
  readonly reload: (loaded: AgentConfig) => void;
};

/** Settings come from the file and from whoever sets them live: who came last holds. */
export function createLiveSettings(options: {
  readonly config: AgentConfig;
  readonly agent: Pick<Agent, 'settings' | 'change'>;
  readonly say: Say;
}): LiveSettings {
  const { config, agent, say } = options;
  let inFile = settingsOfReload(config, config);
  /** As the agent took it: a driver may bound what it is told. */
  let ofFile = agent.settings();
  return {
    change: change => {
      agent.change(changeSettings(agent.settings(), change));
      return agent.settings();
    },
    reload: loaded => {
      const wanted = settingsOfReload(config, loaded);
      const before = agent.settings();
      const live = settingChanges(ofFile, before);
      if (settingChanges(inFile, wanted).length === 0) {
        const kept = live.map(({ name, from, to }) => `${name} ${to} (in the file ${from})`);
        if (kept.length > 0)
          say(
            'info',
            `agent: the file has the settings it had; set live, and kept: ${kept.join(', ')}`,
          );
        return;
      }
      agent.change(wanted);
      [inFile, ofFile] = [wanted, agent.settings()];
      const replaced = settingChanges(before, ofFile)
        .filter(({ name }) => live.some(one => one.name === name))
        .map(({ name, from, to }) => `${name} ${from} → ${to}`);
      if (replaced.length > 0)
        say('info', `agent: the file replaces what was set live: ${replaced.join(', ')}`);
    },
  };
}
