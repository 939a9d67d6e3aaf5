import test from 'ava';
import { unseenInterfaces } from '../../src/linux/unseen-interfaces.ts';
import { makeTree } from './tree.ts';

const unseen = test.macro({
  exec: (t, expected: string[], ...args: string[]) => {
    const roots = makeTree(t, {
      'sys/bus/pci/devices/0000:01:00.0/class': '0x020000',
      'sys/bus/pci/devices/0000:02:00.0/class': '0x030000',
    });
    const found = unseenInterfaces(roots, ['qemu-system-x86_64', '-m', '1G', ...args]);
    t.deepEqual([...found], expected);
  },
  title: title => `interfaces that are not seen: ${title}`,
});

const json = (object: object) => JSON.stringify(object);

test('none without one', unseen, []);
test('taps are', unseen, [], '-netdev', 'tap,id=n0,fd=9', '-device', 'virtio-net-pci,netdev=n0');
test('vhost-user', unseen, ['vhost_user'], '-netdev', 'vhost-user,id=n0,chardev=c0');
const libvirts = json({ type: 'vhost-user', chardev: 'charnet0', id: 'hostnet0' });
test("libvirt's vhost-user", unseen, ['vhost_user'], '-netdev', libvirts);
test('as a type', unseen, ['vhost_user'], '--netdev', 'type=vhost-user,id=n0,chardev=c0');
test('vDPA', unseen, ['vdpa'], '-netdev', 'vhost-vdpa,vhostdev=/dev/vhost-vdpa-0,id=n0');
test('user mode', unseen, ['user'], '-nic', 'user,model=virtio', '-netdev', 'passt,id=n1');
test('a network controller of its own', unseen, ['vfio'], '-device', 'vfio-pci,host=01:00.0');
const whole = json({ driver: 'vfio-pci', host: '0000:01:00.0', id: 'hostdev0' });
test("libvirt's controller", unseen, ['vfio'], '-device', whole);
test('a graphics card of its own is none', unseen, [], '-device', 'vfio-pci,host=0000:02:00.0');
test('an address that is a path is none', unseen, [], '-device', 'vfio-pci,host=../0000:01:00.0');
test(
  'words elsewhere are none',
  unseen,
  [],
  '-name',
  'vhost-user',
  '-device',
  'vhost-user-blk-pci',
);
