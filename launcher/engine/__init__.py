"""Docker over any byte channel: build, ship."""
