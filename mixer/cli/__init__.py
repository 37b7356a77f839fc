"""The commands: flags in, parts wired together. ``mixs`` is the server's side, ``mixc`` the client's."""
