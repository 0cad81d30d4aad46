# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Life - what happens to the mailboxes of a user, at random but with rand()'s seed: mail
# comes, is flagged, copied, moved and removed, and comes back; folders are made, renamed with all
# that is below them, deleted, made again under the same name; subscriptions, Sieve scripts,
# quotas, annotations and rights change.
#
# act() does one of these. What may look different afterwards to who asks by IMAP is noted in
# {touched} (internal names), {quotas} and {scripts}, for CBTest::Snapshot.
package CBTest::Life;
use strict;
use warnings;
use CBTest::Imap;
use CBTest::Server;

# Few names, so that they come again.
my @PATHS = qw(A B C A.x A.x.y B.x C.z D);
my @SYSTEM = qw(\\Seen \\Flagged \\Answered \\Draft);
my $TEXT = CBTest::Imap::noise(3000, 7);
my @KEYWORDS = qw($Label1 $Forwarded Junk later);

# Keys: site, user, at_once (the server deletes folders at once), without (a hash of events that do not
# come; renamed: what has just been renamed is not deleted at once). The user's INBOX must be there.
sub new
{
    my ($class, %o) = @_;
    my $self = bless { %o, folders => { '' => 1 }, sent => [], scripts_there => {}, active => undef,
        deleted => {}, count => 0,
        touched => {}, renamed => {}, quotas => 0, scripts => 0 }, $class;
    $self->login;
    return $self;
}

# Connections; new ones after the user has got another name.
sub login
{
    my ($self) = @_;
    $self->{imap} = $self->imap;
    $self->{admin} = $self->{site}->admin;
    return;
}

sub imap { my ($self) = @_; return $self->{site}->imap_as($self->{user}) }

# ---- names -----------------------------------------------------------------------------------

sub internal { my ($self, $path) = @_; return $self->{site}->names->folder($self->{user}, $path) }

sub own
{
    my ($self, $path) = @_;
    return $self->{site}->names->for_user($self->{user}, $self->internal($path));
}

sub adm { my ($self, $path) = @_; return $self->{site}->names->for_admin($self->internal($path)) }

sub pick { return $_[rand @_] }

sub some { my ($chance, @list) = @_; return grep { rand() < $chance } @list }

# Any folder; one that is not the INBOX; a name that nobody has.
sub folder { my ($self) = @_; return pick(sort keys %{ $self->{folders} }) }

sub ordinary
{
    my ($self) = @_;
    return pick(grep { $_ ne '' } sort keys %{ $self->{folders} });
}

sub free_name
{
    my ($self) = @_;
    # what has others below it is there, too
    return pick(grep { !$self->tree($_) } @PATHS);
}

sub touch
{
    my ($self, @paths) = @_;
    $self->{touched}{ $self->internal($_) } = 1 for @paths;
    return;
}

# ---- mail --------------------------------------------------------------------------------------

sub text
{
    my ($self) = @_;
    return pick(@{ $self->{sent} }) if @{ $self->{sent} } && rand() < 0.12;    # the same content again
    my $n = ++$self->{count};
    my $message = CBTest::Imap::message(subject => "$self->{user} $n",
        body => "$n " . substr($TEXT, int rand 900, 120 + int rand 1500) =~ s/\A\n|\r\z//gr . "\r\n");
    push @{ $self->{sent} }, $message;
    return $message;
}

# CODE with a folder selected and the UIDs of some of its messages; nothing if it has none.
sub with_uids
{
    my ($self, $chance, $code) = @_;
    my $path = $self->folder;
    my $imap = $self->{imap};
    $imap->must(select => $self->own($path));
    my $all = $imap->must(search => 'all');
    my @uids = ref $all ? @{$all} : ();
    my @some = some($chance, @uids);
    @some = pick(@uids) if @uids && !@some;
    my $what = @some ? $code->($imap, $path, join(',', @some)) : undef;
    $imap->must('unselect');
    $self->touch($path);
    return $what;
}

sub mail
{
    my ($self) = @_;
    my $path = $self->folder;
    my $n = 1 + int rand 3;
    for (1 .. $n) {
        my @flags = some(0.2, @SYSTEM, @KEYWORDS);
        my $date = sprintf '%2d-Nov-20%02d 10:%02d:00 +0000', 1 + rand 28, 10 + rand 16, rand 60;
        $self->{imap}->append($self->own($path), $self->text, @flags ? (flags => \@flags) : (),
            rand() < 0.3 ? (date => $date) : ());
    }
    $self->touch($path);
    return "$n to '$path'";
}

sub flags
{
    my ($self) = @_;
    my $how = pick(qw(+FLAGS +FLAGS -FLAGS FLAGS));
    my $flags = '(' . join(' ', some(0.35, @SYSTEM, @KEYWORDS)) . ')';
    return if $flags eq '()' && $how ne 'FLAGS';
    return $self->with_uids(0.4, sub {
        my ($imap, $path, $uids) = @_;
        $imap->must(store => $uids, $how, $flags);
        return "'$path' $uids $how $flags";
    });
}

sub copy
{
    my ($self) = @_;
    my $to = $self->folder;
    return $self->with_uids(0.2, sub {
        my ($imap, $path, $uids) = @_;
        $imap->must(copy => $uids, $self->own($to));
        $self->touch($to);
        return "'$path' $uids copied to '$to'";
    });
}

sub move
{
    my ($self) = @_;
    my $to = $self->folder;
    return $self->with_uids(0.2, sub {
        my ($imap, $path, $uids) = @_;
        return if $path eq $to;
        $imap->raw('UID MOVE', "$uids " . $self->own($to));
        $self->touch($to);
        return "'$path' $uids moved to '$to'";
    });
}

sub expunge
{
    my ($self) = @_;
    return $self->with_uids(pick(0.15, 0.15, 0.9), sub {
        my ($imap, $path, $uids) = @_;
        $imap->must(store => $uids, '+FLAGS', '(\\Deleted)');
        $imap->must('expunge');
        return "'$path' $uids expunged";
    });
}

# ---- folders -----------------------------------------------------------------------------------

sub create
{
    my ($self) = @_;
    my $path = $self->free_name // return;
    $self->{imap}->must(create => $self->own($path));
    $self->{folders}{$path} = 1;
    $self->touch($path);
    return "'$path' made";
}

# All that is there below a folder, and itself.
sub tree
{
    my ($self, $path) = @_;
    return grep { /^\Q$path\E(?:\.|\z)/ } sort keys %{ $self->{folders} };
}

sub rename
{
    my ($self) = @_;
    my ($from, $to) = ($self->ordinary // return, $self->free_name // return);
    return if $to =~ /^\Q$from\E\./ || $from =~ /^\Q$to\E\./;
    my %new = map { ($_ => $to . substr($_, length $from)) } $self->tree($from);
    return if grep { $self->{folders}{$_} } values %new;
    $self->{imap}->must(rename => $self->own($from), $self->own($to));
    $self->touch(%new);
    $self->{renamed}{$_} = 1 for values %new;
    delete @{ $self->{folders} }{ keys %new };
    @{ $self->{folders} }{ values %new } = (1) x keys %new;
    return "'$from' renamed to '$to'";
}

# With all that is below. What is deleted gets a name by the second, so not two of one name in one.
sub delete
{
    my ($self) = @_;
    my $path = $self->ordinary // return;
    my @gone = reverse $self->tree($path);
    return if $self->{at_once} && $self->{without}{renamed} && grep { $self->{renamed}{$_} } @gone;
    return if !$self->{at_once} && grep { ($self->{deleted}{$_} // 0) >= time - 1 } @gone;
    for my $name (@gone) {
        $self->{imap}->must(delete => $self->own($name));
        $self->{deleted}{$name} = time;
        delete $self->{folders}{$name};
        $self->touch($name);
    }
    return join(', ', @gone) . ' deleted';
}

# The name of one that was, at once for another.
sub replace
{
    my ($self) = @_;
    my $what = $self->delete // return;
    my ($path) = $what =~ /([^ ,]+) deleted$/;
    $self->{imap}->must(create => $self->own($path));
    $self->{folders}{$path} = 1;
    $self->{imap}->append($self->own($path), $self->text) for 1 .. rand 3;
    return "$what, another '$path' made";
}

sub subscribe
{
    my ($self) = @_;
    my $how = pick(qw(subscribe subscribe unsubscribe));
    my $path = $self->folder;
    $self->{imap}->must($how => $self->own($path));
    return "$how '$path'";
}

sub rights
{
    my ($self) = @_;
    my $path = $self->folder;
    my $acl = pick(qw(lr lrs lrswi), '');
    if ($acl eq '') {
        $self->{admin}->must(deleteacl => $self->adm($path), 'frank');
    } else {
        $self->{admin}->must(setacl => $self->adm($path), 'frank', $acl);
    }
    $self->touch($path);
    return "rights of frank to '$path': $acl";
}

# ---- the rest ----------------------------------------------------------------------------------

# A value as IMAP wants it; those with line breaks are literals.
my @NOTES = ('short', 'words "in quotes" \\ and so on', "two\r\nlines", "\xc3\xa4 \xe2\x82\xac", 'x' x 300);

sub note
{
    my ($self) = @_;
    my $value = rand() < 0.2 ? 'NIL' : do { my $v = pick(@NOTES); sprintf "{%d+}\r\n%s", length $v, $v };
    if (rand() < 0.5) {
        my ($path, $entry) = ($self->folder, pick(qw(/shared/comment /private/comment)));
        $self->{imap}->raw('SETMETADATA', $self->own($path) . " ($entry $value)");
        $self->touch($path);
        return "note on '$path'";
    }
    my $which = pick(qw(value.shared value.priv));
    return $self->with_uids(0.1, sub {
        my ($imap, $path, $uids) = @_;
        $imap->raw('UID STORE', "$uids ANNOTATION (/comment ($which $value))");
        return "note on '$path' $uids";
    });
}

# Of the whole user, or of a folder and what is below it.
sub quota
{
    my ($self) = @_;
    my $path = rand() < 0.6 ? '' : $self->folder;
    my $limits = pick(sub { 'STORAGE ' . (1000000 + int rand 1000) }, sub { 'MESSAGE ' . (10000 + int rand 1000) },
        sub { 'STORAGE 2000000 MESSAGE ' . (5000 + int rand 1000) })->();
    $self->{admin}->must(setquota => $self->adm($path), "($limits)");
    $self->{quotas} = 1;
    return "quota of '$path': $limits";
}

sub script
{
    my ($self) = @_;
    # not to be kept open: timsieved holds a lock that sync_client waits for
    my $client = $self->{site}->sieve_as($self->{user});
    my $there = $self->{scripts_there};
    my @names = sort keys %{$there};
    my $how = @names ? pick(qw(put put activate activate delete none)) : 'put';
    $self->{scripts} = 1;
    if ($how eq 'put') {
        my $name = pick(qw(one two three));
        $client->put($name, "# $self->{user} " . ++$self->{count} . "\r\nkeep;\r\n# two lines\r\n");
        $there->{$name} = 1;
        return "script $name put";
    }
    my $name = pick(@names);
    if ($how eq 'activate') {
        $client->activate($name);
        $self->{active} = $name;
    } elsif ($how eq 'none') {
        $client->activate('');
        $self->{active} = undef;
    } else {
        return if ($self->{active} // '') eq $name;    # must not be deleted
        $client->delete($name);
        delete $there->{$name};
    }
    return "script $name $how";
}

# ---- one of them -------------------------------------------------------------------------------

my @EVENTS = (
    mail => 22, flags => 18, copy => 6, move => 7, expunge => 10, create => 9, rename => 6, delete => 4,
    replace => 3, subscribe => 5, rights => 2, note => 6, quota => 3, script => 7,
);

# Each event as often as it weighs.
sub weighed
{
    my (@events) = @_;
    my @dice;
    while (my ($event, $weight) = splice @events, 0, 2) {
        push @dice, ($event) x $weight;
    }
    return @dice;
}
my @DICE = weighed(@EVENTS);

sub dice { my ($self) = @_; return $self->{without} ? grep { !$self->{without}{$_} } @DICE : @DICE }

# Do something, and say what it was. Names that cannot be made or taken, for example
# because of what is, or was, above or below them, are left alone.
sub act
{
    my ($self) = @_;
    while (1) {
        my $event = pick($self->dice);
        my $what;
        if (!eval { $what = $self->$event; 1 }) {
            die $@ if $@ !~ /\b(?:create|rename|delete) .*(?:Mailbox already exists|HASCHILDREN)/;
            $self->look;
            next;
        }
        next unless defined $what;
        return "$event: $what";
    }
}

# Which folders there are, as the server says.
sub look
{
    my ($self) = @_;
    my $inbox = $self->internal('');
    $self->{folders} = { map { (substr($_, 1 + length $inbox) => 1) }
        grep { /^\Q$inbox\E\./ } CBTest::Server::mailbox_names(@{$self}{qw(site user)}) };
    $self->{folders}{''} = 1;
    return;
}

1;
