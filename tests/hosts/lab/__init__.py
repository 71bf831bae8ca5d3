"""Real systemd hosts on one machine: containers on a bridge of their own, to crash, to reboot and to cut off."""
