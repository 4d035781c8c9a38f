# What `make install` does beyond copying: the configuration, which may be there
# already, and the unit, which names the binary. `source` is the source's top.

# The daemon reads /etc/jabsocket.conf: that is where it goes from a system's
# prefix. Under a prefix of your own nothing outside of it is touched.
if(CMAKE_INSTALL_PREFIX MATCHES "^/(usr(/local)?)?/*$")
    set(etc /etc)
else()
    set(etc "${CMAKE_INSTALL_PREFIX}/etc")
endif()

set(file "$ENV{DESTDIR}${etc}/jabsocket.conf")
if(EXISTS "${file}" OR IS_SYMLINK "${file}")
    message(STATUS "Kept as it is: ${file}")
else()
    file(READ "${source}/conf/installed.conf" text)
    string(REPLACE "/usr/share/doc" "${CMAKE_INSTALL_PREFIX}/share/doc" text "${text}")
    message(STATUS "Installing: ${file}")
    file(WRITE "${file}" "${text}")
    file(CHMOD "${file}" PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
    list(APPEND CMAKE_INSTALL_MANIFEST_FILES "${file}")
endif()

file(READ "${source}/conf/jabsocket.service" unit)
string(REPLACE "/usr/bin/jabsocket" "${CMAKE_INSTALL_PREFIX}/bin/jabsocket" unit "${unit}")
string(REPLACE "/etc/jabsocket.conf" "${etc}/jabsocket.conf" unit "${unit}")
set(file "${CMAKE_INSTALL_PREFIX}/lib/systemd/system/jabsocket.service")
message(STATUS "Installing: $ENV{DESTDIR}${file}")
file(WRITE "$ENV{DESTDIR}${file}" "${unit}")
# Whatever the umask.
file(CHMOD "$ENV{DESTDIR}${file}" PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
list(APPEND CMAKE_INSTALL_MANIFEST_FILES "${file}")
