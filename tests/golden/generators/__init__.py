"""One module per frozen file. Each runs the reference from a clone of its repository; none contains its code.

A module has the address and the commit of the reference, a sentence on what is computed, and a function
`generate(folder)` from the folder of the clone to arrays by name.
"""
