// The brackets of docs/design.md: who may import whom. `scripts/check.ts` also fails when nothing was cruised.
const parts = ['agent', 'pae', 'sculptor', 'pipeline', 'api', 'linux', 'otlp', 'contract'];
const mayImport = {
  contract: [],
  otlp: ['contract'],
  linux: ['contract'],
  pipeline: ['contract', 'otlp'],
  agent: ['contract', 'linux', 'otlp'],
  pae: ['contract', 'otlp'],
  sculptor: ['contract', 'linux', 'otlp'],
  api: ['contract'],
};
module.exports = {
  forbidden: [
    ...parts.map(part => ({
      name: `${part}-imports-only-what-it-may`,
      severity: 'error',
      from: { path: `^src/${part}/` },
      to: { path: '^src/', pathNot: [part, ...mayImport[part]].map(p => `^src/${p}/`) },
    })),
    {
      name: 'contract-is-zod-only',
      severity: 'error',
      from: { path: '^src/contract/' },
      to: { dependencyTypes: ['npm', 'npm-dev'], pathNot: 'node_modules/zod/' },
    },
    {
      name: 'pae-touches-no-kernel',
      severity: 'error',
      from: { path: '^src/pae/' },
      to: { path: '^(node:)?(child_process|os)$' },
    },
    {
      name: 'native-has-one-importer',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/linux/native\\.ts$' },
      to: { path: '^native/' },
    },
    { name: 'no-circular', severity: 'error', from: { path: '^src/' }, to: { circular: true } },
    { name: 'no-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
