// `npm run bench -- NAME [--json]`: measures, prints the figures beside their targets, and where the raw samples are.
import { formatFailure } from '../src/cli/failure.ts';
import { formatTable } from '../src/cli/table.ts';
import { benchAgentFootprint } from './agent-footprint.ts';
import type { Bench, BenchResult } from './bench.ts';
import { benchBenefit } from './benefit.ts';
import { benchBpfOverhead } from './bpf-overhead.ts';
import { benchKvmHooks } from './kvm-hooks.ts';
import { benchTimeToAct } from './time-to-act.ts';

const benches: Readonly<Record<string, Bench>> = {
  'agent-footprint': benchAgentFootprint,
  benefit: benchBenefit,
  'bpf-overhead': benchBpfOverhead,
  'kvm-hooks': benchKvmHooks,
  'time-to-act': benchTimeToAct,
};

function format(name: string, { figures, targets, overrides, raw }: BenchResult): string {
  const rows = Object.entries(figures).map(([figure, value]) => ({
    figure,
    value: typeof value === 'number' ? String(Number(value.toPrecision(4))) : JSON.stringify(value),
    target: targets[figure] ?? '',
  }));
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
    changed.length > 0
      ? `Not as shipped:\n${changed.join('\n')}`
      : 'Configuration: as shipped, but for the policy that names the staged instances.',
    `Raw samples: ${raw}`,
  ].join('\n\n');
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
