"""What a reboot brings back: the sh hook, the init systems it is called by, and their files."""
