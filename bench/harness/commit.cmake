# SPDX-License-Identifier: Apache-2.0
# Writes HEADER with the commit of SOURCE_DIR, "-dirty" when files other than results differ from it;
# leaves an unchanged header alone, so that nothing is rebuilt.
execute_process(
  COMMAND git describe --always --abbrev=12 --exclude=*
  WORKING_DIRECTORY ${SOURCE_DIR}
  OUTPUT_VARIABLE commit
  OUTPUT_STRIP_TRAILING_WHITESPACE
  ERROR_QUIET
  RESULT_VARIABLE result)
if(NOT result EQUAL 0 OR commit STREQUAL "")
  set(commit "unknown")
else()
  execute_process(
    COMMAND git diff --quiet HEAD -- . ":(exclude)results"
    WORKING_DIRECTORY ${SOURCE_DIR}
    RESULT_VARIABLE differs
    ERROR_QUIET)
  if(NOT differs EQUAL 0)
    string(APPEND commit "-dirty")
  endif()
endif()
set(content "#define BROOD_COMMIT \"${commit}\"\n")
set(old "")
if(EXISTS ${HEADER})
  file(READ ${HEADER} old)
endif()
if(NOT old STREQUAL content)
  file(WRITE ${HEADER} "${content}")
endif()
