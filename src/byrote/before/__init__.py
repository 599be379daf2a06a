"""What is done before the first sample: naming pictures, measuring tau, weighing what the audit costs and shows."""
