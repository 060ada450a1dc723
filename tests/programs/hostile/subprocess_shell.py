import subprocess
subprocess.run('touch /tmp/alphamix-hostile; sleep 100 &', shell=True)
