# -*- coding: utf-8 -*-
# ünïcödé
input()
print(sum(map(int, input().split())))
