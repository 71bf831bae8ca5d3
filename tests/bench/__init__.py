"""Goals for speed and size, each measured side by side with a yardstick."""
