"""What whoever runs the service sees of it: logs, traces, metrics."""
