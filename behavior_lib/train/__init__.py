"""The training loop, how its processes talk, and how they are started and watched."""
