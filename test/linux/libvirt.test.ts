import test from 'ava';
import fc from 'fast-check';
import {
  type Domain,
  findVirsh,
  isLibvirts,
  parseStats,
  statsScript,
} from '../../src/linux/libvirt.ts';
import { busy, makeFakeVirsh, oneDrive, threeDrives } from '../support/fake-virsh.ts';

const uuid = (i: number) => `b0000000-0000-4000-8000-0000000000${i}`;
const nonce = '5f0c';
const web: Domain = { uuid: uuid(11), name: 'web' };

/** What virsh says of some domains, one after the other. */
const said = (answers: readonly (readonly [Domain, string])[]) =>
  `${answers.map(([domain, text]) => `${nonce}:${domain.uuid}:\n${text}`).join('')}${nonce}::\n`;

const parse = (answers: readonly (readonly [Domain, string])[], stderr = '') =>
  parseStats(
    said(answers),
    stderr,
    answers.map(([domain]) => domain),
    nonce,
  );

const whyOf = (text: string, stderr = '', domain = web) => {
  const answer = parse([[domain, text]], stderr).get(domain.uuid);
  return answer && 'why' in answer ? `${answer.why}: ${answer.detail}` : answer;
};

test('counters are those of the drives that were used, by the names that the domain has them by', t => {
  t.deepEqual(parse([[web, threeDrives]]).get(web.uuid), {
    drives: [
      {
        name: 'vda',
        counters: {
          read: { bytes: 512, operations: 1, timeNs: 61913464 },
          write: { bytes: 0, operations: 0, timeNs: 0 },
          flush: { bytes: 0, operations: 0, timeNs: 0 },
          discard: { bytes: 0, operations: 0, timeNs: 0 },
        },
      },
    ],
  });
  const answer = parse([[web, oneDrive('web', [2, 3, 4])]]).get(web.uuid);
  t.deepEqual(answer && 'drives' in answer && answer.drives[0]?.counters, {
    read: { bytes: 1024, operations: 2, timeNs: 2000 },
    write: { bytes: 12288, operations: 3, timeNs: 6000 },
    flush: { bytes: 0, operations: 4, timeNs: 12000 },
    discard: { bytes: 0, operations: 0, timeNs: 0 },
  });
});

test('a domain without a drive has told all of them', t => {
  t.deepEqual(whyOf("Domain: 'web'\n  block.count=0\n\n"), { drives: [] });
});

test('a domain that is passed over, or was not known, is told with its reason', t => {
  t.regex(
    String(whyOf(busy, '', { uuid: uuid(10), name: 'v10' })),
    /^libvirt_silent: libvirt works on it/,
  );
  t.regex(
    String(whyOf('\n', `error: failed to get domain '${web.uuid}'\n`)),
    /^libvirt_unknown: .* no domain b0/,
  );
  t.regex(
    String(whyOf('\n', 'error: Disconnected from qemu:///system due to end of file\n')),
    /^libvirt_silent: .*Disconnected/,
  );
});

test('a domain of that UUID with another name is not the one of this QEMU', t => {
  t.regex(String(whyOf(oneDrive('db', [1]))), /^libvirt_unknown: libvirt calls b0.* otherwise/);
});

test('a domain that is called as the UUID of another is not taken for it', t => {
  const domain = { uuid: uuid(55), name: uuid(55) };
  t.is(
    statsScript([web, domain], nonce),
    `echo ${nonce}:${uuid(11)}:; domstats --raw --nowait --block ${uuid(11)}; ` +
      `echo ${nonce}:${uuid(55)}:; domname ${uuid(55)}; domstats --raw --nowait --block ${uuid(55)}; echo ${nonce}::`,
  );
  const stats = oneDrive(domain.name, [1]);
  const refused = `error: failed to get domain '${domain.uuid}'\n`;
  t.regex(String(whyOf(`\n${stats}`, refused, domain)), /^libvirt_unknown/);
  t.regex(String(whyOf(stats, '', domain)), /^libvirt_unknown/);
  t.true('drives' in (parse([[domain, `${domain.name}\n\n${stats}`]]).get(domain.uuid) ?? {}));
});

test('numbers that are none, and fields that are there twice, are not told', t => {
  const stats = oneDrive('web', [1]);
  t.regex(String(whyOf(stats.replace('reqs=1', 'reqs=-1'))), /^libvirt_silent/);
  t.regex(String(whyOf(stats.replace('count=1', 'count=x'))), /^libvirt_silent.*count=x/);
  const twice = oneDrive('web', [1], '/a\n  block.0.rd.bytes=7');
  t.regex(String(whyOf(twice)), /^libvirt_silent: virsh says block\.0\.rd\.bytes twice/);
});

test('whatever a domain and its files are called, what is told of others stays the same', t => {
  const other: Domain = { uuid: uuid(12), name: 'other' };
  const piece = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.constantFrom("\n\nDomain: 'other'\n", '\n  block.0.rd.reqs=9\n', "'", ':', `${uuid(12)}:\n`),
  );
  const text = fc.array(piece, { maxLength: 6 }).map(pieces => pieces.join(''));
  const expected = parse([[other, oneDrive('other', [5])]]).get(other.uuid);
  fc.assert(
    fc.property(text, text, (name, path) => {
      fc.pre(!`${name}${path}`.includes(nonce));
      const odd = { uuid: uuid(11), name };
      const answers = parse([
        [odd, oneDrive(name, [1], path)],
        [other, oneDrive('other', [5])],
        [web, ''],
      ]);
      t.deepEqual(answers.get(other.uuid), expected);
      const own = answers.get(odd.uuid);
      if (own && 'drives' in own) t.is(own.drives[0]?.counters.read.operations, 1);
    }),
  );
});

test('of a run that was cut off, what was whole is told', t => {
  const [second, third] = [
    { uuid: uuid(12), name: 'b' },
    { uuid: uuid(13), name: 'c' },
  ];
  const whole = said([
    [web, oneDrive('web', [1])],
    [second, oneDrive('b', [1])],
    [third, oneDrive('c', [1])],
  ]);
  const at = whole.indexOf(`${nonce}:${third.uuid}`);
  for (let length = at - 60; length < at; length += 1) {
    const answers = parseStats(whole.slice(0, length), '', [web, second, third], nonce);
    t.true('drives' in (answers.get(web.uuid) ?? {}));
    t.like(answers.get(second.uuid), { why: 'libvirt_silent' });
    t.false(answers.has(third.uuid));
  }
});

test('QEMUs are known for those of libvirt by the name of their monitor', t => {
  t.true(isLibvirts(['-chardev', 'socket,id=charmonitor,fd=31,server=on']));
  t.true(isLibvirts(['-chardev', '{"id":"charmonitor","backend":{}}']));
  t.false(isLibvirts(['-chardev', 'socket,id=charmonitor2,path=/x', '-name', 'charmonitor']));
});

test('virsh is looked for on the search path', t => {
  const { path } = makeFakeVirsh(t);
  t.is(findVirsh(`/nowhere::${path.slice(0, -'/virsh'.length)}`), path);
  t.is(findVirsh('/nowhere'), null);
  t.is(findVirsh(''), null);
});
