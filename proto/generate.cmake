# The C code of the slices: one command makes all of it (proto/tools/generate.py), one library holds it.
file(GLOB_RECURSE SKIFF_SLICES CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR}/proto ${CMAKE_SOURCE_DIR}/proto/*.proto)
file(GLOB SKIFF_PROTO_TOOLS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/proto/tools/*.py)
set(SKIFF_GEN ${CMAKE_BINARY_DIR}/gen)
set(skiff_generated ${SKIFF_GEN}/proto/tables.c)
set(skiff_generated_headers)
set(skiff_slice_paths)
foreach(known any duration empty field_mask struct timestamp wrappers)
  list(APPEND skiff_generated ${SKIFF_GEN}/google/protobuf/${known}.pb-c.c)
  list(APPEND skiff_generated_headers ${SKIFF_GEN}/google/protobuf/${known}.pb-c.h)
endforeach()
foreach(slice ${SKIFF_SLICES})
  list(APPEND skiff_slice_paths ${CMAKE_SOURCE_DIR}/proto/${slice})
  if(NOT slice MATCHES "^(skiff/support|validate/validate)\\.proto$")
    string(REGEX REPLACE "\\.proto$" ".pb-c" stem ${slice})
    list(APPEND skiff_generated ${SKIFF_GEN}/${stem}.c)
    list(APPEND skiff_generated_headers ${SKIFF_GEN}/${stem}.h)
  endif()
endforeach()
# Debian's python3-protobuf belongs to the system's Python, whatever else is on the path.
find_program(SKIFF_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
# The stamp is what ninja watches; byproducts keep their time when they do not change.
add_custom_command(OUTPUT ${SKIFF_GEN}/stamp
  BYPRODUCTS ${skiff_generated} ${skiff_generated_headers}
  COMMAND ${SKIFF_PYTHON} -B ${CMAKE_SOURCE_DIR}/proto/tools/generate.py ${CMAKE_SOURCE_DIR}/proto ${SKIFF_GEN}
  COMMAND ${CMAKE_COMMAND} -E touch ${SKIFF_GEN}/stamp
  DEPENDS ${skiff_slice_paths} ${SKIFF_PROTO_TOOLS}
  COMMENT "Generating the C code of the slices" VERBATIM)
add_custom_target(skiff_proto_generate DEPENDS ${SKIFF_GEN}/stamp)
add_library(skiff_proto_gen STATIC ${skiff_generated})
add_dependencies(skiff_proto_gen skiff_proto_generate)
set_target_properties(skiff_proto_gen PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 24)
target_include_directories(skiff_proto_gen PUBLIC ${SKIFF_GEN} PRIVATE ${CMAKE_SOURCE_DIR})
target_compile_options(skiff_proto_gen PRIVATE -w -O1 -g0)
target_link_libraries(skiff_proto_gen PUBLIC PkgConfig::PROTOBUF_C)
