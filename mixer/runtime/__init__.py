"""The running Mixer: handlers and their life, the dispatcher, and the controller that follows the configuration."""
