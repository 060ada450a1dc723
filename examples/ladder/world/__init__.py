"""A small programming world: sentences about integers and arrays, programs for them, inputs that grow.

`grammar` defines the questions. `literal` and `efficient` hold the programs that answer them, and `program` what the
two share. `inputs` draws inputs from small to large, `problems` combines everything for the judge, and `corpus` writes
the texts of the supervised stage.
"""
