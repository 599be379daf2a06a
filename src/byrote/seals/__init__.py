"""What makes an audit stand up when others look at it: signed statements, checks of every digest, exports."""
