"""Running hostile programs. The modules in `confined` run inside the sandbox; all others are the trusted side.

`zygote_handle` starts a zygote, which confines itself and forks a process for each program; `controller` feeds such a
process inputs and measures it; `probes` tries to break out. No module here knows a problem or an expected output.
"""
