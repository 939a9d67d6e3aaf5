// `npm run bench -- NAME [--json]`: measures, prints the figures beside their targets, and where the raw samples are.
import { formatFailure } from '../src/cli/failure.ts';
import { formatTable, wrap } from '../src/cli/table.ts';
import { benchAgentFootprint } from './agent-footprint.ts';
import { benchAgentMemory } from './agent-memory.ts';
import type { Bench, BenchResult } from './bench.ts';
import { benchBenefit } from './benefit.ts';
import { benchBpfOverhead } from './bpf-overhead.ts';
import { benchEngineScale } from './engine-scale.ts';
import { benchKvmHooks } from './kvm-hooks.ts';
import { benchTimeToAct } from './time-to-act.ts';

const benches: Readonly<Record<string, Bench>> = {
  'agent-footprint': benchAgentFootprint,
  'agent-memory': benchAgentMemory,
  benefit: benchBenefit,
  'bpf-overhead': benchBpfOverhead,
  'engine-scale': benchEngineScale,
  'kvm-hooks': benchKvmHooks,
  'time-to-act': benchTimeToAct,
};

type Row = { readonly figure: string; readonly value: string; readonly target: string };

/** Figures beside their targets; lists, which no column is wide enough for, below. */
function format(name: string, { figures, targets, overrides, raw }: BenchResult): string {
  const rows: Row[] = [];
  const lists: string[] = [];
  const add = (figure: string, value: unknown, target = ''): void => {
    if (Array.isArray(value)) {
      const items = value.map(item => (typeof item === 'string' ? item : JSON.stringify(item)));
      const title = [figure, target].filter(Boolean).join(', ');
      lists.push(`${title}:\n${wrap(items.join(' ') || 'none', 100, '  ')}`);
    } else if (typeof value === 'object' && value !== null) {
      rows.push({ figure, value: Object.keys(value).length === 0 ? 'none' : '', target });
      for (const [key, each] of Object.entries(value)) add(`  ${key}`, each);
    } else {
      rows.push({ figure, value: plain(value), target });
    }
  };
  for (const [figure, value] of Object.entries(figures)) add(figure, value, targets[figure]);
  const table = formatTable(
    [
      { title: name, of: row => row.figure },
      { title: 'measured', of: row => row.value },
      { title: 'target', of: row => row.target },
    ],
    rows,
  );
  const changed = Object.entries(overrides).map(([key, why]) => `  ${key}: ${why}`);
  return [
    table,
    ...lists,
    changed.length > 0
      ? `Not as shipped:\n${changed.join('\n')}`
      : 'Configuration: as shipped, but for the policy that names the staged instances.',
    `Raw samples: ${raw}`,
  ].join('\n\n');
}

/** Of a number four digits. */
function plain(value: unknown): string {
  return String(typeof value === 'number' ? Number(value.toPrecision(4)) : value);
}

const [name = '', ...flags] = process.argv.slice(2);
const bench = Object.hasOwn(benches, name) ? benches[name] : undefined;
let code = 0;
if (bench === undefined) {
  process.stderr.write(`bench: wanted one of ${Object.keys(benches).join(', ')}, got "${name}"\n`);
  code = 2;
} else {
  try {
    const result = await bench(line => void process.stderr.write(`${line}\n`));
    process.stdout.write(
      flags.includes('--json')
        ? `${JSON.stringify({ ...result.figures, targets: result.targets, overrides: result.overrides, raw: result.raw })}\n`
        : `${format(name, result)}\n`,
    );
  } catch (error) {
    process.stderr.write(`${formatFailure(error, process.env['SCULPT_DEBUG'] === '1')}\n`);
    code = 1;
  }
}
process.exit(code);
