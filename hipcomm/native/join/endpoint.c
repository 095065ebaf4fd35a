#include "endpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../failure.h"
#include "digest.h"
#include "sockets.h"

#define LOCK_SECONDS 10.0  /* another rank 0 holds the lock while it looks around and publishes */
#define POLL_SECONDS 0.02  /* between two attempts to get it */
#define PROBE_SECONDS 0.2  /* for a connection on this machine */
#define SWEPT_FILES 100    /* that are looked at, at most */

static bool is_own_directory(const char* path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid();
}

hipcommResult_t find_endpoint_file(const char* job, EndpointFile* file) {
    const char* runtime = getenv("XDG_RUNTIME_DIR");
    char directory[PATH_MAX - 64];
    /* after su or sudo -E it is another user's */
    const bool is_private = runtime && *runtime && is_own_directory(runtime);
    const int length = is_private ? snprintf(directory, sizeof directory, "%s/hipcomm", runtime)
                                  : snprintf(directory, sizeof directory, "/tmp/hipcomm-%u", (unsigned)geteuid());
    if (length >= (int)sizeof directory)
        return set_error(NULL, hipcommPlatformError, "XDG_RUNTIME_DIR is too long a path");
    struct stat status;
    /* Not stat(): a link may lead into another user's directory. */
    if ((mkdir(directory, 0700) != 0 && errno != EEXIST) || lstat(directory, &status) != 0)
        return set_error(NULL, hipcommPlatformError, "cannot make the directory %s: %s", directory, strerror(errno));
    if (!S_ISDIR(status.st_mode) || status.st_uid != geteuid() || status.st_mode & 077)
        return set_error(NULL, hipcommPlatformError,
                         "%s is not a directory of mode 0700 owned by user %u (owner %u, mode %04o): remove it or set "
                         "XDG_RUNTIME_DIR", directory, (unsigned)geteuid(), (unsigned)status.st_uid,
                         (unsigned)status.st_mode & 07777);
    /* Hashed: a key holds whatever a launcher has put there. */
    uint8_t digest[32];
    char name[2 * sizeof digest + 1];
    sha256(job, strlen(job), digest);
    write_hexadecimal(digest, sizeof digest, name);
    snprintf(file->path, sizeof file->path, "%s/%.32s", directory, name);
    return hipcommSuccess;
}

int lock_endpoints(const EndpointFile* file) {
    char directory[PATH_MAX];
    const double deadline = now_seconds() + LOCK_SECONDS;
    snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(file->path, '/') - file->path), file->path);
    const int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (descriptor >= 0 && flock(descriptor, LOCK_EX | LOCK_NB) != 0 && now_seconds() < deadline)
        sleep_until(now_seconds() + POLL_SECONDS);
    return descriptor;
}

/* Of a file whose name has no process's number at its end the server is asked. */
static bool is_left_over(const EndpointFile* file) {
    const char* owner = strrchr(file->path, '.');
    if (owner && owner > strrchr(file->path, '/')) {
        char process[64];
        snprintf(process, sizeof process, "/proc/%.20s", owner + 1);
        return strspn(owner + 1, "0123456789") == strlen(owner + 1) && access(process, F_OK) != 0;
    }
    Endpoint endpoint;
    if (!look_up_endpoint(file, &endpoint)) return false;
    const int socket = connect_to(endpoint.host, endpoint.port, now_seconds() + PROBE_SECONDS);
    if (socket < 0) return errno == ECONNREFUSED;
    close_socket(socket);
    return false;
}

void sweep_endpoints(const EndpointFile* file) {
    char directory[PATH_MAX];
    snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(file->path, '/') - file->path), file->path);
    DIR* list = opendir(directory);
    if (!list) return;
    const struct dirent* entry;
    for (int looked = 0; looked < SWEPT_FILES && (entry = readdir(list)); ++looked) {
        EndpointFile other;
        const int length = snprintf(other.path, sizeof other.path, "%s/%s", directory, entry->d_name);
        if (entry->d_name[0] == '.' || length >= (int)sizeof other.path || !is_left_over(&other)) continue;
        if (unlink(other.path) != 0) continue; /* another rank has swept it */
    }
    closedir(list);
}

hipcommResult_t publish_endpoint(const EndpointFile* file, const Endpoint* endpoint) {
    char temporary[PATH_MAX + 16], line[512];
    snprintf(temporary, sizeof temporary, "%s.%d", file->path, (int)getpid());
    const int size = snprintf(line, sizeof line, "%s %d %s\n", endpoint->host, endpoint->port, endpoint->token);
    const int descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool is_written = descriptor >= 0 && write(descriptor, line, (size_t)size) == size;
    if (descriptor >= 0 && close(descriptor) != 0) is_written = false;
    if (is_written && rename(temporary, file->path) == 0) return hipcommSuccess;
    return set_error(NULL, hipcommPlatformError, "cannot write the endpoint file %s: %s", file->path, strerror(errno));
}

bool look_up_endpoint(const EndpointFile* file, Endpoint* endpoint) {
    const int descriptor = open(file->path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return false;
    char line[512];
    const ssize_t size = read(descriptor, line, sizeof line - 1);
    close(descriptor);
    if (size <= 0) return false;
    line[size] = '\0';
    *endpoint = (Endpoint){.port = 0};
    return sscanf(line, "%255s %d %128s", endpoint->host, &endpoint->port, endpoint->token) == 3 &&
           endpoint->port > 0 && endpoint->port < 65536;
}

void withdraw_endpoint(const EndpointFile* file, const Endpoint* endpoint) {
    Endpoint now;
    if (!look_up_endpoint(file, &now) || now.port != endpoint->port || strcmp(now.token, endpoint->token) != 0) return;
    /* a file that stays does no harm: a rank that reads it is refused and reads again */
    if (unlink(file->path) != 0) return;
}
