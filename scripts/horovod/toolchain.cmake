# Horovod 0.28.1 asks its compiler for C++14; the headers of today's PyTorch are C++17. CMake reads this file before the
# project's first line (environment variable CMAKE_TOOLCHAIN_FILE) and cxx17.cmake right after `project()`, where the
# compiler's flags are known. Horovod's released source stays as it is.
set(CMAKE_PROJECT_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/cxx17.cmake")
