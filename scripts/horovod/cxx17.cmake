# "C++11" and "C++14" from here on mean C++17.
foreach(standard CXX11 CXX14)
  set(CMAKE_${standard}_STANDARD_COMPILE_OPTION "-std=c++17")
  set(CMAKE_${standard}_EXTENSION_COMPILE_OPTION "-std=gnu++17")
endforeach()
