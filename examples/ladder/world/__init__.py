"""A small programming world: sentences about integers and arrays, programs that answer them, inputs that
grow.

`grammar` says what can be asked, `programs` how it can be answered (literally or efficiently, right or with a
bug), `inputs` draws inputs from small to large, `problems` puts them together as problems for the judge, and
`corpus` writes the texts of the supervised stage.
"""
