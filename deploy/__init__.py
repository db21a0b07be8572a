"""How Lectr is put on machines: containers, and the laptop stack in `deploy.local`."""
