"""Real systemd hosts on one machine: containers on a bridge of their own, to crash, reboot and cut off."""
