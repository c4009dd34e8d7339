# Completion of ringmain's command line in fish. Commands and options are those that the program's own --help names.

function __ringmain_command
    for word in (commandline -opc)[2..]
        if not string match -q -- '-*' $word
            echo $word
            return 0
        end
    end
    return 1
end

function __ringmain_commands
    ringmain --help 2>/dev/null | sed -n '/^Subcommands:/,/^$/s/^  \([a-z]\+\)  *\(.*\)/\1\t\2/p'
end

function __ringmain_options
    ringmain (__ringmain_command) --help 2>/dev/null | sed -n 's/^  \(-h,\)\{0,1\}\(--[a-z-]\+\) *\([A-Z][][A-Z,.]* \)\{0,1\} *\(.*\)/\2\t\4/p'
end

function __ringmain_wants_a_file
    set -l words (commandline -opc)
    test "$words[-1]" = --config; or test (__ringmain_command) = check
end

complete -c ringmain -f
complete -c ringmain -n 'not __ringmain_command' -a '(__ringmain_commands)'
complete -c ringmain -n 'not __ringmain_command' -l help -d 'Print help'
complete -c ringmain -n 'not __ringmain_command' -l version -d 'Print the version'
complete -c ringmain -n '__ringmain_command; and string match -q -- "-*" (commandline -ct)' -a '(__ringmain_options)'
complete -c ringmain -n '__ringmain_command; and __ringmain_wants_a_file' -F
