# SPDX-License-Identifier: Apache-2.0
"""The virtual machine under the tests is what they take it for."""

from support.vm import Vm


def test_machine_with_systemd(tmp_path):
    (tmp_path / "hello").write_text("from the host\n")
    with Vm(payload={"opt/hello": tmp_path / "hello"}) as vm:
        assert vm.run("cat /opt/hello").output == "from the host\n"
        assert vm.run("cat /proc/1/comm").output == "systemd\n"
        assert "memory" in vm.run("cat /sys/fs/cgroup/cgroup.controllers").output
        assert vm.run("exit 7", check=False).status == 7
        vm.run("modprobe overlay && modprobe veth && modprobe bridge && ip link add v type veth && nft list ruleset")
        vm.run("systemctl start nftables; echo stays >/root/kept")
        vm.reboot()
        assert vm.run("cat /root/kept").output == "stays\n"


def test_small_machine_without_systemd():
    with Vm(memory_mb=98, systemd=False) as vm:
        total = int(vm.run("awk '/MemTotal/ { print $2 }' /proc/meminfo").output)
        assert total < 80 << 10
        assert "memory" in vm.run("cat /sys/fs/cgroup/cgroup.controllers").output
        vm.reboot(hard=True)
        assert vm.run("cat /proc/1/comm").output == "test-agent\n"
