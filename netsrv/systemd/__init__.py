"""What systemd offers a server: notifications, a watchdog, a store for descriptors."""
