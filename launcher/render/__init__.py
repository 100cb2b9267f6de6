"""Values to text: the job's lines made safe, tables, phases, bars, and the JSON stream."""
