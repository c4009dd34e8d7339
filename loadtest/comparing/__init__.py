"""The parts of loadtest/compare: machine, processes, peers, scenarios, measuring, figures, report, svg."""
