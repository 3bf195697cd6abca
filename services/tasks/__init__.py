"""Long work: what takes longer than a request is a task, which a worker carries out, once, and anybody can watch."""
