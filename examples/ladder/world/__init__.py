"""A small programming world: sentences about integers and arrays, programs for them, inputs that grow.

`grammar` says what can be asked; `literal` and `efficient` how it can be answered, and `program` what they
share; `inputs` draws inputs from small to large; `problems` puts all together for the judge; `corpus` writes
the texts of the supervised stage.
"""
