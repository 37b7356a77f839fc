"""For authors of adapters that run as a process of their own."""
