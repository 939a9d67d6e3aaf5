/** `npm run check`: types, Biome, dependency boundaries, dead code, formats, generated docs. Fails when a tool looked at nothing. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

type Verdict = { ok: boolean; looked: number; output: string };

const format = process.argv.includes('--format');
const cSources = tracked(
  'bpf/*.c',
  'bpf/*.h',
  'bpf/**/*.h',
  'native/**/*.cc',
  'native/**/*.h',
  'native/**/*.c',
);

if (format) run('clang-format', ['-i', ...cSources]);

const checks: Record<string, () => Verdict> = {
  types: () => {
    const { ok, output } = run('tsc', ['-p', '.', '--listFilesOnly']);
    const looked = output
      .split('\n')
      .filter(file => /\/(src|test|scripts|bench)\//.test(file) && !/node_modules/.test(file));
    const checked = run('tsc', ['-p', '.']);
    return { ok: ok && checked.ok, looked: looked.length, output: checked.output };
  },
  biome: () => {
    const { ok, output } = run('biome', ['check', '.']);
    return { ok, looked: Number(/Checked (\d+) files/.exec(output)?.[1] ?? 0), output };
  },
  boundaries: () => {
    const { ok, output } = run('depcruise', [
      '--config',
      '.dependency-cruiser.cjs',
      'src',
      'native/index.d.ts',
    ]);
    return { ok, looked: Number(/(\d+) modules/.exec(output)?.[1] ?? 0), output };
  },
  'dead code': () => {
    const { ok, output } = run('knip', ['--no-progress']);
    const project = tracked('src/**/*.ts', 'test/**/*.ts', 'scripts/*.ts', 'bench/**/*.ts');
    return { ok, looked: project.length, output };
  },
  'clang-format': () => {
    const { ok, output } = run('clang-format', ['--dry-run', '-Werror', ...cSources]);
    return { ok, looked: cSources.length, output };
  },
  'generated docs': () => {
    const { ok, output } = run('node', ['scripts/schema.ts', '--check']);
    return { ok, looked: Number(/(\d+) files/.exec(output)?.[1] ?? 0), output };
  },
  'machine paths': () => {
    const files = tracked('.').filter(file => file !== 'package-lock.json');
    const found = files.filter(file =>
      /(^|["'`\s=(])\/(work|root|home)\/\w/.test(readFileSync(file, 'latin1')),
    );
    return { ok: found.length === 0, looked: files.length, output: found.join('\n') };
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  const began = Date.now();
  const { ok, looked, output } = check();
  const seconds = ((Date.now() - began) / 1000).toFixed(1);
  if (ok && looked > 0) {
    console.log(`check: ${name}: ok, ${looked} files (${seconds} s)`);
    continue;
  }
  failed += 1;
  console.log(
    `check: ${name}: ${looked === 0 ? 'looked at nothing' : 'FAILED'} (${seconds} s)\n${output.trim()}`,
  );
}
process.exitCode = failed > 0 ? 1 : 0;

function run(command: string, args: string[]): { ok: boolean; output: string } {
  const path = `${process.cwd()}/node_modules/.bin:${process.env['PATH'] ?? ''}`;
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    env: { ...process.env, PATH: path, NO_COLOR: '1' },
  });
  const problem = result.error ? `${command}: ${result.error.message}\n` : '';
  return {
    ok: result.status === 0,
    output: `${problem}${result.stdout ?? ''}${result.stderr ?? ''}`,
  };
}

function tracked(...globs: string[]): string[] {
  const { stdout } = spawnSync(
    'git',
    ['ls-files', '-z', '--', ...globs.map(glob => (glob === '.' ? '.' : `:(glob)${glob}`))],
    {
      encoding: 'utf8',
    },
  );
  return stdout.split('\0').filter(file => file !== '');
}
