//! Configurations, with the processes that supervisord creates from them.

/// A configuration, and its processes.
pub(super) struct Case {
    /// Paths and contents of the files. The first file is `/etc/s.conf`.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Group, name, and both logs with their limits; none if supervisord rejects the configuration.
    pub(super) processes: Option<&'static [[&'static str; 4]]>,
}

/// Results of `ServerOptions` of supervisor 4.2.5, where all directories exist. Comments are its error
/// messages. Unformatted: one line per file is the most readable.
#[rustfmt::skip]
pub(super) const TRUTH: &[Case] = &[
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\n\n")],
        processes: Some(&[["a", "a", "AUTO 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/%(program_name)s.log\nstderr_logfile=NONE\n")],
        processes: Some(&[["a", "a", "/l/a.log 52428800 10", "NONE 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/%(program_name)s-%(process_num)02d.log\nnumprocs=3\nprocess_name=%(program_name)s_%(process_num)02d\nnumprocs_start=8\n")],
        processes: Some(&[["a", "a_08", "/l/a-08.log 52428800 10", "AUTO 52428800 10"], ["a", "a_09", "/l/a-09.log 52428800 10", "AUTO 52428800 10"], ["a", "a_10", "/l/a-10.log 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/%(numprocs)s-%(group_name)s-%(host_node_name)s.log\nredirect_stderr=true\nstderr_logfile=/l/x\n")],
        processes: Some(&[["a", "a", "/l/1-a-node1.log 52428800 10", "NONE 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=%(here)s/a.log\n[program:b]\ncommand=/bin/cat\nstdout_logfile=%(ENV_DIR)s/b.log\nstdout_logfile_maxbytes=1KB\nstdout_logfile_backups=0\n")],
        processes: Some(&[["a", "a", "/etc/a.log 52428800 10", "AUTO 52428800 10"], ["b", "b", "/srv/b.log 1024 0", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/%(ENV_NOPE)s.log\n")],
        // Format string '/l/%(ENV_NOPE)s.log' for 'program:a.stdout_logfile' contains names ('ENV_NOPE') which cannot be expanded. Available names: ENV_DIR, ENV
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/%(nope)s.log\n")],
        // Format string '/l/%(nope)s.log' for 'program:a.stdout_logfile' contains names ('nope') which cannot be expanded. Available names: ENV_DIR, ENV_HOME, E
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/100%.log\n")],
        // Format string '/l/100%.log' for 'program:a.stdout_logfile' is badly formatted: %o format: an integer is required, not dict in section 'program:a' (fil
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/100%%.log\n")],
        // Format string '/l/100%.log' for 'stdout_logfile' is badly formatted: %o format: an integer is required, not dict in section 'program:a' (file: '/etc/s
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/100%%%%.log\n")],
        processes: Some(&[["a", "a", "/l/100%.log 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/%(ENV_PCT)s.log\n")],
        // Format string '/l/50%.log' for 'stdout_logfile' is badly formatted: %o format: an integer is required, not dict in section 'program:a' (file: '/etc/s.
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/%%(program_name)s.log\n")],
        processes: Some(&[["a", "a", "/l/a.log 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/a.log ; note\nstdout_logfile_maxbytes=0 # never\n")],
        processes: Some(&[["a", "a", "/l/a.log 0 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/a;b#c.log\n")],
        processes: Some(&[["a", "a", "/l/a;b#c.log 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=syslog\nstderr_syslog=true\n")],
        processes: Some(&[["a", "a", "NONE 52428800 10 syslog", "AUTO 52428800 10 syslog"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=none\nstderr_logfile=OFF\n")],
        processes: Some(&[["a", "a", "NONE 52428800 10", "NONE 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=Auto\nstderr_logfile=\n")],
        processes: Some(&[["a", "a", "AUTO 52428800 10", "NONE 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=~/a.log\nstderr_logfile=rel/a.log\n")],
        processes: Some(&[["a", "a", "/root/a.log 52428800 10", "rel/a.log 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\n")],
        processes: Some(&[["a", "a", "/dev/stdout 0 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nnumprocs=2\n")],
        // %(process_num) must be present within process_name when numprocs > 1 in section 'program:a' (file: '/etc/s.conf')
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nnumprocs=%(ENV_N)s\nprocess_name=p%(process_num)x\nnumprocs_start=9\nstdout_logfile=/l/%(process_num)03x\n")],
        processes: Some(&[["a", "p9", "/l/009 52428800 10", "AUTO 52428800 10"], ["a", "pa", "/l/00a 52428800 10", "AUTO 52428800 10"], ["a", "pb", "/l/00b 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nnumprocs=0\n")],
        processes: Some(&[]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nnumprocs=two\n")],
        // invalid literal for int() with base 10: 'two' in section 'program:a' (file: '/etc/s.conf')
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nprocess_name=a b\n")],
        // Invalid name: 'a b' because of character: ' ' in section 'program:a' (file: '/etc/s.conf')
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a b]\ncommand=/bin/cat\n\n")],
        // Invalid name: 'a b' because of character: ' '
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program: a ]\ncommand=/bin/cat\nstdout_logfile=/l/%(program_name)s\n")],
        processes: Some(&[["a", "a", "/l/a 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/1.log\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/2.log\n")],
        processes: Some(&[["a", "a", "/l/2.log 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[group:g]\nprograms=a,b\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/%(group_name)s.%(program_name)s\n[program:b]\ncommand=/bin/cat\n\n[program:c]\ncommand=/bin/cat\n\n")],
        processes: Some(&[["c", "c", "AUTO 52428800 10", "AUTO 52428800 10"], ["g", "a", "/l/g.a 52428800 10", "AUTO 52428800 10"], ["g", "b", "AUTO 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[group:g]\nprograms=a, nope\n[program:a]\ncommand=/bin/cat\n\n")],
        // [program:a] names unknown program or fcgi-program nope
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[group:g]\nprograms=a\n[group:h]\nprograms=a\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/%(group_name)s\n")],
        processes: Some(&[["g", "a", "/l/g 52428800 10", "AUTO 52428800 10"], ["h", "a", "/l/h 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[group:g]\npriority=3\n[program:a]\ncommand=/bin/cat\n\n")],
        processes: Some(&[["a", "a", "AUTO 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\nenvironment=V=\"w,x\",U=%(ENV_X)s\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/%(ENV_V)s%(ENV_U)s\n")],
        processes: Some(&[["a", "a", "/l/w,xval 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\nenvironment=V=%(host_node_name)s\n[program:a]\ncommand=/bin/cat\n\n")],
        // Format string 'V=%(host_node_name)s' for 'supervisord.environment' contains names ('host_node_name') which cannot be expanded. Available names: ENV_DI
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\nenvironment=V=%%(host_node_name)s\n[program:a]\ncommand=/bin/cat\nstdout_logfile=/l/%(ENV_V)s\n")],
        processes: Some(&[["a", "a", "/l/node1 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nenvironment=V=\"p%(process_num)d\"\nnumprocs=2\nprocess_name=%(process_num)s\nstdout_logfile=/l/%(ENV_V)s\n")],
        processes: Some(&[["a", "0", "/l/p0 52428800 10", "AUTO 52428800 10"], ["a", "1", "/l/p1 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nenvironment=V=\"p\",W=\"%(ENV_V)s\"\nstdout_logfile=/l/x\n")],
        // Format string 'V="p",W="%(ENV_V)s"' for 'environment' contains names ('ENV_V') which cannot be expanded. Available names: ENV_DIR, ENV_HOME, ENV_N, EN
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nenvironment=V\n")],
        // Unexpected end of key/value pairs in value 'V' in section 'program:a' (file: '/etc/s.conf')
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nenvironment=A=\"b\",W=%(ENV_A)s\nnumprocs=1\n")],
        // Format string 'A="b",W=%(ENV_A)s' for 'environment' contains names ('ENV_A') which cannot be expanded. Available names: ENV_DIR, ENV_HOME, ENV_N, ENV_
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[program:a]\ncommand=/bin/cat\n\n")],
        // .ini file does not include supervisord section
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\n")],
        // program section program:a does not specify a command in section 'program:a' (file: '/etc/s.conf')
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nredirect_stderr=maybe\n")],
        // not a valid boolean value: 'maybe' in section 'program:a' (file: '/etc/s.conf')
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile_maxbytes=50M\n")],
        // invalid literal for int() with base 10: '50m' in section 'program:a' (file: '/etc/s.conf')
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile_maxbytes=%(process_num)dKB\nnumprocs_start=7\n")],
        processes: Some(&[["a", "a", "AUTO 7168 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\npriority=%(process_num)d\n")],
        // Format string '%(process_num)d' for 'program:a.priority' contains names ('process_num') which cannot be expanded. Available names: ENV_DIR, ENV_HOME, 
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\npriority=%(ENV_N)s\n")],
        processes: Some(&[["a", "a", "AUTO 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstopsignal=NOPE\n")],
        // value 'NOPE' is not a valid signal name in section 'program:a' (file: '/etc/s.conf')
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstopasgroup=true\nkillasgroup=false\n")],
        // Cannot set stopasgroup=true and killasgroup=false in section 'program:a' (file: '/etc/s.conf')
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstopasgroup=true\n")],
        processes: Some(&[["a", "a", "AUTO 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[eventlistener:a]\ncommand=/bin/cat\nevents=TICK_5\n")],
        processes: Some(&[["a", "a", "AUTO 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[eventlistener:a]\ncommand=/bin/cat\nevents=TICK_5\nredirect_stderr=true\n")],
        // [eventlistener:a] section sets redirect_stderr=true but this is not allowed because it will interfere with the eventlistener protocol
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[eventlistener:a]\ncommand=/bin/cat\n\n")],
        // [eventlistener:a] section requires an "events" line
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[eventlistener:a]\ncommand=/bin/cat\nevents=tick_5,NOPE\n")],
        // Unknown event type NOPE in [eventlistener:a] events
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[fcgi-program:a]\ncommand=/bin/cat\nsocket=tcp://127.0.0.1:99\nnumprocs=2\nprocess_name=%(process_num)s\nstdout_logfile=/l/%(program_name)s%(process_num)d\n")],
        processes: Some(&[["a", "0", "/l/a0 52428800 10", "AUTO 52428800 10"], ["a", "1", "/l/a1 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[fcgi-program:a]\ncommand=/bin/cat\n\n")],
        // [fcgi-program:a] section requires a "socket" line
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[DEFAULT]\nstdout_logfile=/l/%(program_name)s\n[supervisord]\n[program:a]\ncommand=/bin/cat\n\n[program:b]\ncommand=/bin/cat\n\n")],
        processes: Some(&[["a", "a", "/l/a 52428800 10", "AUTO 52428800 10"], ["b", "b", "/l/b 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/inc/n.txt", "junk"), ("/etc/inc/y.conf", "[program:a]\ncommand=/bin/cat\nstdout_logfile=%(here)s/y\n"), ("/etc/inc/z.conf", "[program:z]\ncommand=/bin/cat\nstdout_logfile=%(here)s/z\n"), ("/etc/s.conf", "[supervisord]\n[include]\nfiles=inc/*.conf\n[program:a]\ncommand=/bin/cat\nstdout_logfile=%(here)s/a\n")],
        processes: Some(&[["a", "a", "/etc/inc/y 52428800 10", "AUTO 52428800 10"], ["z", "z", "/etc/inc/z 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/inc/node1.conf", "[supervisord]\n[program:z]\ncommand=/bin/cat\nstdout_logfile=%(here)s/%%%%%%%%s\n"), ("/etc/s.conf", "[include]\nfiles=%(here)s/inc/%(host_node_name)s.conf none*.conf\n")],
        processes: Some(&[["z", "z", "/etc/inc/%%s 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/inc/z.conf", "junk\n"), ("/etc/s.conf", "[supervisord]\n[include]\nfiles=inc/*.conf\n")],
        // File contains no section headers. file: '/etc/inc/z.conf', line: 1 'junk\n'
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[include]\nfile=inc/*.conf\n")],
        // .ini file has [include] section, but no files setting
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[include]\nfiles=%(program_name)s\n")],
        // Format string '%(program_name)s' for 'include.files' contains names ('program_name') which cannot be expanded. Available names: ENV_DIR, ENV_HOME, ENV
        processes: None,
    },
    Case {
        files: &[("/etc/inc/z.conf", "[include]\nfiles=more.conf\n[program:z]\ncommand=/bin/cat\n\n"), ("/etc/more.conf", "junk"), ("/etc/s.conf", "[supervisord]\n[include]\nfiles=inc/*.conf\n")],
        processes: Some(&[["z", "z", "AUTO 52428800 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\njunk\n")],
        // Source contains parsing errors: '/etc/s.conf' [line 2]: 'junk\n'
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "a=1\n[supervisord]\n")],
        // File contains no section headers. file: '/etc/s.conf', line: 1 'a=1\n'
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n=1\n")],
        // Source contains parsing errors: '/etc/s.conf' [line 2]: '=1\n'
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\nloglevel=loud\n")],
        // bad logging level name 'loud'
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\nnodaemon=perhaps\n")],
        // not a valid boolean value: 'perhaps'
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\nidentifier=%(program_name)s\n")],
        // Format string '%(program_name)s' for 'supervisord.identifier' contains names ('program_name') which cannot be expanded. Available names: ENV_DIR, ENV_
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\nlogfile_backups=x\n")],
        // invalid literal for int() with base 10: 'x'
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord : x]\n")],
        // .ini file does not include supervisord section
        processes: None,
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\ncommand=/bin/cat\nstdout_logfile_backups=1_0\nstdout_logfile_maxbytes= 2 mb \n")],
        processes: Some(&[["a", "a", "AUTO 2097152 10", "AUTO 52428800 10"]]),
    },
    Case {
        files: &[("/etc/s.conf", "[supervisord]\n[program:a]\nCOMMAND:/bin/cat\nStdout_Logfile : /l/a\n")],
        processes: Some(&[["a", "a", "/l/a 52428800 10", "AUTO 52428800 10"]]),
    },
];
