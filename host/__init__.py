"""The machine as ports, and the real ones behind them. Only `node` picks a real one."""
