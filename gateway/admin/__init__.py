"""What operators do through HTTP."""
