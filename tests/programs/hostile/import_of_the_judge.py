import grading.judge, grading.sandbox.controller
print(grading)
