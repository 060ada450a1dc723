"""Running hostile programs: `controller` is the trusted side, the rest runs confined.

`controller` boots `zygote`, which confines itself (`confinement`, `seccomp`) and forks a process per program
(`program`); `probes` tries to break out. No module here knows an expected output or a problem.
"""
