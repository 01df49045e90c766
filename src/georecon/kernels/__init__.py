"""The ET's operations: ``reference.py`` has the equations; C++ and Triton are the same, faster."""
