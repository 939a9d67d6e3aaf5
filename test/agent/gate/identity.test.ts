import test from 'ava';
import {
  guestAttributes,
  instanceOf,
  isForbiddenEvent,
  isIdentity,
} from '../../../src/agent/gate/identity.ts';

const uuid = '11111111-2222-3333-4444-55555555abcd';
const attributes = (claimed: Record<string, string>) =>
  guestAttributes(
    { hostId: 'h', hostName: 'host' },
    instanceOf(uuid),
  )(new Map(Object.entries(claimed)));

test('an instance of the configuration is a VM by its UUID, in whatever case it is written, and a cgroup by its path', t => {
  t.deepEqual(instanceOf(uuid.toUpperCase()), { id: uuid, kind: 'vm', name: uuid });
  t.deepEqual(instanceOf(uuid, 'web'), { id: uuid, kind: 'vm', name: 'web' });
  t.deepEqual(instanceOf('/machine/a'), { id: '/machine/a', kind: 'cgroup', name: 'a' });
  t.is(instanceOf('/machine/a', 'b').name, 'b');
  t.is(instanceOf(`${uuid}0`).kind, 'cgroup');
});

test('what a guest claims is cut where no id is as long, be it kept or part of what it is told by', t => {
  const claim = 'x'.repeat(600);
  const told = attributes({ 'sculptor.instance.id': claim, 'host.name': claim });
  t.is(told['sculptor.guest.instance.id'], claim.slice(0, 512));
  t.is(told['sculptor.guest.host.name'], claim.slice(0, 512));
  t.is(told['service.instance.id'], `guest:h:${uuid}:${claim.slice(0, 512)}`);
});

test('a guest tells its own apart by service.instance.id, else by its instance, else not at all', t => {
  const told = (claimed: Record<string, string>) => attributes(claimed)['service.instance.id'];
  t.is(told({ 'service.instance.id': 'a', 'sculptor.instance.id': '/b' }), `guest:h:${uuid}:a`);
  t.is(told({ 'sculptor.instance.id': '/b' }), `guest:h:${uuid}:/b`);
  t.is(told({}), `guest:h:${uuid}:`);
});

test('every name of an event of this product is one, however it is written, and no other is', t => {
  for (const name of ['sculptor.action', 'Sculptor.Action', ' \tSCULPTOR.', 'sculptor.x'])
    t.true(isForbiddenEvent(name), name);
  for (const name of ['sculptor', 'my.sculptor.action', 'sculptors.x', ''])
    t.false(isForbiddenEvent(name), name);
});

test('what says who speaks is the transport’s to say, and what only resembles it is the guest’s', t => {
  for (const key of ['host.id', 'HOST-NAME', 'service_instance_id', 'sculptor..origin'])
    t.true(isIdentity(key), key);
  for (const key of ['sculptor.instance.new', 'sculptor_guest_anything'])
    t.true(isIdentity(key), key);
  for (const key of [
    'host.type',
    'service.name',
    'sculptor.reason',
    'sculptor.instances',
    'toString',
  ])
    t.false(isIdentity(key), key);
});
