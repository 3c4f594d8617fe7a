# Types a line into an interactive zsh, then TAB, and prints what the line is then.
# tab.zsh FOLDER-OF-COMPLETIONS LINE
zmodload zsh/zpty zsh/zselect
zpty shell zsh -f -i

# What comes after TAB is made visible by a key of our own, which leaves the line in a file.
answer=$(mktemp)
zpty -w shell "PS1= PS2= fpath=($1 \$fpath); autoload -Uz compinit; compinit -D -u;" \
    "show() { print -r -- \$BUFFER > $answer.part; mv $answer.part $answer; };" \
    "zle -N show; bindkey '^I' complete-word; bindkey '^G' show"
zpty -w -n shell "$2"$'\t\a'

# The terminal's output has to be taken, or it fills up.
while [[ ! -s $answer ]]; do
    zpty -r -t shell ignored || zselect -t 5
done
print -r -- "$(<$answer)"
zpty -d shell
rm -f $answer
