import alphamix.grading.judge.judge, alphamix.grading.sandbox.controller
print(alphamix)
