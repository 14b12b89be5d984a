"""Numbers from traces, sweeps over them, and the theory beside."""
