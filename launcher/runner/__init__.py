"""The verbs, as generators of events: no Click, no print."""
