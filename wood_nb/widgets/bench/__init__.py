"""The workbench: one screen to see out-of-distribution pictures and to decide; each part is plain Python, the page only shows and asks"""
