# Sourced by begin.sh, as process 1: hands the machine to systemd with what a virtualization host runs, and nothing else of
# what happens to be enabled on the outer machine. $1: device of the guest agent.
units=/run/systemd/system
mkdir -p "$units"
for unit in systemd-timesyncd systemd-pstore systemd-repart systemd-firstboot systemd-machine-id-commit systemd-random-seed \
  systemd-update-utmp systemd-binfmt systemd-udev-settle systemd-tmpfiles-setup-dev systemd-pcrphase systemd-pcrphase-sysinit \
  systemd-journal-flush systemd-sysusers systemd-networkd systemd-resolved ldconfig apparmor keyboard-setup console-setup \
  networking libvirt-guests qemu-guest-agent systemd-udev-trigger; do
  ln -s /dev/null "$units/$unit.service"
done
for unit in apt-daily.timer fstrim.timer avahi-daemon.socket docker.socket dev-hugepages.mount sys-kernel-config.mount \
  proc-sys-fs-binfmt_misc.automount cryptsetup.target veritysetup.target integritysetup.target; do
  ln -s /dev/null "$units/$unit"
done
cat >"$units/lab-agent.service" <<UNIT
[Unit]
DefaultDependencies=no
[Service]
Nice=-15
ExecStart=/usr/sbin/qemu-ga --method virtio-serial --path $1 --statedir /run
UNIT
cat >"$units/lab-shell.service" <<UNIT
[Service]
WorkingDirectory=/checkout
Environment=PATH=$PATH HOME=/root TERM=linux
ExecStart=/usr/bin/setsid -c /bin/bash -i
ExecStopPost=/bin/sh -c 'echo o >/proc/sysrq-trigger'
StandardInput=tty
StandardOutput=tty
StandardError=tty
TTYPath=/dev/hvc0
UNIT
# What runs the host comes before what runs on it.
mkdir -p "$units/system.slice.d"
printf '[Slice]\nCPUWeight=10000\n' >"$units/system.slice.d/lab.conf"
cat >"$units/lab.target" <<UNIT
[Unit]
Requires=basic.target
After=basic.target
Wants=dbus.service lab-agent.service systemd-machined.service $(grep -q lab-shell /proc/cmdline && echo lab-shell.service)
UNIT
read -r up _ </proc/uptime
echo "lab: systemd begins after $up s"
exec /lib/systemd/systemd --unit=lab.target --log-target=console --log-level=warning --show-status=no
