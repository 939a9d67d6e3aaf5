#!/bin/sh
# Inside the lab: starts a small guest under libvirt, its console in /tmp/NAME.log:
#   libvirt-guest.sh FOLDER TYPE NAME UUID WORKLOAD [DISK]     TYPE: kvm or qemu (emulated); DISK: an image, its vda; the rest as run-guest.sh
# Without systemd the daemons are started here, once.
set -eu
folder=$1 type=$2 name=$3 uuid=$4 workload=$5 disk=${6:-}
if ! virsh -q list >/dev/null 2>&1; then
  # The guest's files are root's, and nothing else runs in the lab.
  printf '%s\n' 'user = "root"' 'group = "root"' 'security_driver = "none"' >/etc/libvirt/qemu.conf
  virtlogd -d -p /run/virtlogd.pid
  libvirtd -d -p /run/libvirtd.pid
  for _ in $(seq 60); do
    if virsh -q list >/dev/null 2>&1; then break; fi
    sleep 0.5
  done
fi
case $type in
kvm) cpu="<cpu mode='host-passthrough'/>" ;;
*) cpu="<cpu mode='maximum'/>" ;;
esac
modules='' disk_xml=''
if [ -n "$disk" ]; then
  modules=virtio_pci,virtio_blk
  disk_xml="<disk type='file'><driver name='qemu' type='raw'/><source file='$disk'/><target dev='vda' bus='virtio'/></disk>"
fi
cat >"/tmp/$name.xml" <<XML
<domain type='$type'>
  <name>$name</name><uuid>$uuid</uuid>
  <memory unit='MiB'>192</memory><vcpu>2</vcpu>$cpu
  <features><acpi/><apic/></features>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>$folder/vmlinuz</kernel><initrd>$folder/initramfs</initrd>
    <cmdline>console=ttyS0 panic=-1 mitigations=off tsc=reliable audit=0 quiet loglevel=4 workload=$workload modules=$modules</cmdline>
  </os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <serial type='file'><source path='/tmp/$name.log'/></serial>
    $disk_xml
    <memballoon model='none'/>
  </devices>
</domain>
XML
virsh -q create "/tmp/$name.xml"
