#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# A long history of a few users, told as sync_client 3.6.1 told it when it was listened to, command
# by command, with small messages in place of the true ones. It was recorded with two listeners: with
# Cyrus' backupd, which is told of scripts by commands, and with sync_server, which is sent them as
# a mailbox. The answers must be those a client got then, save what that backupd forgot: quotas,
# which script is active, annotations, questions for several users at once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Feed qw(message);
use CBTest::Talk qw(lit annotation);
use CBTest::Util qw(sha1_hex);
use Test::More;

my $t = CBTest::Talk->new;
my %box;      # name -> mailbox on the master
my %there;    # UNIQUEID -> { header, modseq, crc }: what the server was told
my %meta = map { $_ => [] } qw(nora fran carl);

sub make
{
    my ($name, @bodies) = @_;
    $box{$name} = CBTest::Feed->new(mboxname => $name, extra => { createdmodseq => 1, foldermodseq => 1 });
    $box{$name}->append($_) for @bodies;
    return;
}

sub header { my ($b, %more) = @_; return $b->header(%{ $b->{extra} }, %more) }

# What is listed of these mailboxes, in the order of their names.
sub listed
{
    return map { "* MAILBOX %($_->{header})" } sort { $a->{name} cmp $b->{name} }
        grep { defined } map { $there{ $_->{uniqueid} } } @_;
}

sub of_user { my ($user) = @_; return grep { $_->{mboxname} =~ /^(?:DELETED\.)?user\.\Q$user\E(?:\.|$)/ } values %box }

sub get_user
{
    my ($label, $user, @others) = @_;
    $t->says("$label: GET USER", "GET USER $user", listed(of_user($user)), @{ $meta{$user} // [] });
    return;
}

# Names on the wire, and the mailboxes the server then knows under one of these.
sub get_mailboxes
{
    my ($label, @names) = @_;
    my %asked = map { $_ => 1 } @names;
    my @known = grep { $_ && $asked{ $_->{name} } } map { $there{$_} } sort keys %there;
    my @order = map { my $n = $_; grep { $_->{name} eq $n } @known } @names;
    $t->says("$label: GET MAILBOXES", "GET MAILBOXES (@names)", map { "* MAILBOX %($_->{header})" } @order);
    return;
}

sub reserve
{
    my ($label, $names, $guids, @missing) = @_;
    $t->says("$label: RESERVE", "APPLY RESERVE %(PARTITION default MBOXNAME (@{$names}) GUID (@{$guids}))",
        @missing ? "* MISSING (@missing)" : ());
    return;
}

# MAILBOX, as a difference to what the server was told, or all of it.
sub send_box
{
    my ($label, $name, %o) = @_;
    my $b = $box{$name};
    my $was = $o{all} ? undef : $there{ $b->{uniqueid} };
    my %since = $was ? (since_modseq => $was->{modseq}, since_crc => $was->{crc}, since_crc_annot => 12345678) : ();
    $t->says("$label: MAILBOX $name", $b->apply(since => $was ? $was->{modseq} : 0, %{ $b->{extra} }, %since));
    $there{ $b->{uniqueid} } = { name => $name, header => header($b), modseq => $b->{modseq}, crc => $b->crc };
    return;
}

sub rename_box
{
    my ($label, $from, $to) = @_;
    my $b = $box{$to} = delete $box{$from};
    $t->says("$label: RENAME", "APPLY RENAME %(OLDMBOXNAME $from NEWMBOXNAME $to PARTITION default UIDVALIDITY $b->{uidvalidity})");
    $b->{mboxname} = $to;
    my $was = $there{ $b->{uniqueid} };
    $was->{name} = $to;
    $was->{header} =~ s/MBOXNAME \S+/MBOXNAME $to/;
    $b->{extra}{foldermodseq} = ++$b->{modseq};
    return;
}

sub apply { my ($label, @commands) = @_; $t->says("$label: $_" =~ s/\s.*?(\w+) .*/ $1/sr, "APPLY $_") for @commands; return }

# ---- one user ---------------------------------------------------------------------------------

my @text = map { message("nora $_") } 1 .. 12;
make('user.nora', @text[0, 1, 2]);
make('user.nora.Archive');
make('user.nora.Archive.2023', $text[3]);
make('user.nora.Caf&AOk-');
make('user.nora.Drafts');
make('user.nora.Sent', $text[4], $text[0]);
get_user('initial', 'nora');
$t->upload('initial: MESSAGE', @text[0, 1, 2]);
send_box('initial', 'user.nora');
send_box('initial', 'user.nora.Archive');
$t->upload('initial: MESSAGE', $text[3]);
send_box('initial', 'user.nora.Archive.2023');
send_box('initial', $_) for 'user.nora.Caf&AOk-', 'user.nora.Drafts';
$t->upload('initial: MESSAGE', $text[4]);
send_box('initial', 'user.nora.Sent');
apply('initial', map { "SUB %(USERID nora MBOXNAME $_)" } 'user.nora', 'user.nora.Sent');
$t->ends;
$meta{nora} = [my $subs = '* LSUB (user.nora user.nora.Sent)'];

get_user('nothing new', 'nora');
$t->ends;

get_user('two more', 'nora');
$box{'user.nora'}->append($_) for @text[5, 6];
reserve('two more', [sort map { $_->{mboxname} } of_user('nora')], [map { sha1_hex($_) } @text[5, 6]], map { sha1_hex($_) } @text[5, 6]);
$t->upload('two more: MESSAGE', @text[5, 6]);
send_box('two more', 'user.nora');
$t->ends;

get_mailboxes('-m', 'user.nora');
$box{'user.nora'}->append($text[7]);
reserve('-m', ['user.nora'], [sha1_hex($text[7])], sha1_hex($text[7]));
$t->upload('-m: MESSAGE', $text[7]);
send_box('-m', 'user.nora');
$t->ends;

get_mailboxes('content that is there', 'user.nora.Drafts');
$box{'user.nora.Drafts'}->append($text[0]);
reserve('content that is there', ['user.nora.Drafts'], [sha1_hex($text[0])]);
send_box('content that is there', 'user.nora.Drafts');
$t->ends;

my $large = message('large', 1_676_609);
get_mailboxes('1.6 MB', 'user.nora');
$box{'user.nora'}->append($large);
reserve('1.6 MB', ['user.nora'], [sha1_hex($large)], sha1_hex($large));
$t->upload('1.6 MB: MESSAGE', $large);
send_box('1.6 MB', 'user.nora');
$t->ends;

get_mailboxes('flags', 'user.nora');
$box{'user.nora'}->set_flags(2, '\\Answered', '\\Flagged', '$Label1', 'NonJunk');
send_box('flags', 'user.nora');
$t->ends;

get_user('copies', 'nora');
$box{'user.nora.Sent'}->append($_) for @text[1, 2];
reserve('copies', [sort map { $_->{mboxname} } of_user('nora')], [map { sha1_hex($_) } @text[1, 2]]);
send_box('copies', 'user.nora.Sent');
$t->ends;

get_mailboxes('expunge', 'user.nora');
$box{'user.nora'}->set_flags(3, '\\Deleted', '\\Expunged');
send_box('expunge', 'user.nora');
$t->ends;

# ---- folders come, go, and change their names ------------------------------------------------------

get_user('rename', 'nora');
rename_box('rename', 'user.nora.Drafts', 'user.nora.Drafts2');
get_user('rename', 'nora');
send_box('rename', 'user.nora.Drafts2');
$t->ends;

my @names = ('user.nora.Drafts2', 'user.nora.Drafts3');
get_mailboxes('rename by -m', @names);
rename_box('rename by -m', @names);
get_mailboxes('rename by -m', @names);
send_box('rename by -m', 'user.nora.Drafts3');
$t->ends;

get_user('delete', 'nora');
rename_box('delete', 'user.nora.Caf&AOk-', 'DELETED.user.nora.Caf&AOk-.6B023050');
get_user('delete', 'nora');
send_box('delete', 'DELETED.user.nora.Caf&AOk-.6B023050');
$t->ends;

make('user.nora.Tmp');
get_mailboxes('create by -m', 'user.nora.Tmp');
send_box('create by -m', 'user.nora.Tmp');
$t->ends;
get_mailboxes('delete by -m says nothing', 'user.nora.Tmp');
$t->ends;
get_user('the next -u does', 'nora');
rename_box('the next -u does', 'user.nora.Tmp', 'DELETED.user.nora.Tmp.6B023052');
get_user('the next -u does', 'nora');
make('DELETED.user.nora.Other.6B023051');    # made and deleted in between
send_box('the next -u does', $_) for 'DELETED.user.nora.Other.6B023051', 'DELETED.user.nora.Tmp.6B023052';
$t->ends;
get_user('purged', 'nora');
$t->says('purged: UNMAILBOX', 'APPLY UNMAILBOX DELETED.user.nora.Other.6B023051');
delete $there{ (delete $box{'DELETED.user.nora.Other.6B023051'})->{uniqueid} };
get_user('purged', 'nora');
$t->ends;

# ---- what is not mail --------------------------------------------------------------------------------

$t->says('-s: GET META', 'GET META nora', $subs);
apply('-s', 'SUB %(USERID nora MBOXNAME user.nora.Archive)', 'UNSUB %(USERID nora MBOXNAME user.nora.Sent)');
$meta{nora} = [$subs = '* LSUB (user.nora user.nora.Archive)'];
$t->ends;

my ($main, $other) = ("require [\"fileinto\"];\nkeep;\n", "discard;\n");
get_user('scripts', 'nora');
apply('scripts', 'SIEVE %(USERID nora FILENAME main.script LAST_UPDATE 1795305555 CONTENT ' . lit($main, '+') . ')',
    'SIEVE %(USERID nora FILENAME other.script LAST_UPDATE 1795305555 CONTENT ' . lit($other, '+') . ')',
    'ACTIVATE_SIEVE %(USERID nora FILENAME main.bc)');
$t->ends;
my $o = '* SIEVE %(FILENAME other.script LAST_UPDATE 1795305555 GUID ' . sha1_hex($other) . ' ISACTIVE 0)';
my $script = sub { my ($date, $c) = @_; return ($subs, "* SIEVE %(FILENAME main.script LAST_UPDATE $date GUID " . sha1_hex($c)
    . ' ISACTIVE 0)', "* SIEVE %(FILENAME main.bc LAST_UPDATE $date ISACTIVE 1)", $o) };
$meta{nora} = [$script->(1795305555, $main)];
get_user('script changed', 'nora');
apply('script changed', 'SIEVE %(USERID nora FILENAME main.script LAST_UPDATE 1795305556 CONTENT ' . lit("# changed\nkeep;", '+') . ')',
    'ACTIVATE_SIEVE %(USERID nora FILENAME main.bc)');
$t->ends;
$meta{nora} = [$script->(1795305556, "# changed\nkeep;")];
get_user('script deleted', 'nora');
apply('script deleted', 'UNSIEVE %(USERID nora FILENAME main.script)');
$t->ends;
$meta{nora} = [$subs, $o];

get_user('shared with fran', 'nora');
$box{'user.nora'}{extra}{acl} = qq("nora\tlrswipkxtecdan\tfran\tlrs\t");
$box{'user.nora'}{modseq} += 3;
send_box('shared with fran', 'user.nora');
$t->ends;
make('user.fran', message('fran 1'), message('fran 2'));
get_user('who read it', 'fran');
$t->upload('who read it: MESSAGE', map { message("fran $_") } 1, 2);
send_box('who read it', 'user.fran');
my $seen = "UNIQUEID $box{'user.nora'}{uniqueid} LASTREAD 1795305558 LASTUID 9 LASTCHANGE 1795305547 SEENUIDS 1:3";
apply('who read it', 'SUB %(USERID fran MBOXNAME user.fran)', "SEEN %(USERID fran $seen)");
$t->ends;
$meta{fran} = ["* SEEN %($seen)", '* LSUB (user.fran)'];
get_user('who read it, again', 'fran');
$t->ends;

my $note = sub { return '(' . join(' ', map { annotation('/comment', @{$_}, 0) } @_) . ')' };
get_mailboxes('mailbox annotation', 'user.nora');
$box{'user.nora'}{extra}{annotations} = $note->(['', '"shared note"'], ['nora', '"private note"']);
$box{'user.nora'}{modseq} += 2;
send_box('mailbox annotation', 'user.nora');
$t->ends;
get_mailboxes('mailbox annotation removed', 'user.nora');
$box{'user.nora'}{extra}{annotations} = $note->(['nora', '"private note"']);
$box{'user.nora'}{modseq}++;
send_box('mailbox annotation removed', 'user.nora');
$t->ends;

get_user('quota', 'nora');
for my $b (of_user('nora')) {
    $b->{extra}{quotaroot} = 'user.nora';
    $b->{extra}{foldermodseq} = ++$b->{modseq};
}
send_box('quota', $_->{mboxname}) for sort { $a->{mboxname} cmp $b->{mboxname} } of_user('nora');
my $quota = '%(ROOT user.nora LIMIT 100000 STORAGE 100000 MESSAGE 5000 MODSEQ 7)';
apply('quota', "QUOTA $quota");
$t->ends;
$meta{nora} = ["* QUOTA $quota", $subs, $o];
get_user('quota, which is not said again', 'nora');
$t->ends;

get_mailboxes('ACL', 'user.nora.Sent');
$box{'user.nora.Sent'}{extra}{acl} = qq("nora\tlrswipkxtecdan\tanyone\tlr\t");
$box{'user.nora.Sent'}{extra}{foldermodseq} = ++$box{'user.nora.Sent'}{modseq};
send_box('ACL', 'user.nora.Sent');
$t->ends;

# ---- several owners -------------------------------------------------------------------------------------

get_mailboxes('two users', 'user.nora', 'user.fran');
$t->ends;
get_mailboxes('one user', 'user.nora', 'user.nora.Sent');
$t->ends;
make('team', message('team'));
make('team.news', message('news'));
get_mailboxes('shared', 'team', 'team.news');
for my $name (qw(team news)) {
    $t->upload('shared: MESSAGE', message($name));
    send_box('shared', $name eq 'team' ? 'team' : 'team.news');
}
$t->ends;

make('user.carl', message('carl'));
get_mailboxes('-A', $_) for qw(team team.news);
get_user('-A', 'carl');
$t->upload('-A: MESSAGE', message('carl'));
send_box('-A', 'user.carl');
apply('-A', 'SUB %(USERID carl MBOXNAME user.carl)');
$meta{carl} = ['* LSUB (user.carl)'];
get_user('-A', $_) for qw(fran nora);
$t->ends;
$t->says('a user nobody has: GET USER', 'GET USER nosuchuser');
$t->ends;

# ---- rolling ------------------------------------------------------------------------------------------

get_mailboxes('rolling', 'user.fran', map { "user.fran.$_" } qw(Sent Drafts Archive));
$t->restart;
get_mailboxes('rolling', qw(user.nora user.nora.Sent user.nora.Drafts user.nora.Drafts2 user.nora.Archive user.nora.Archive.2023
    user.nora.Caf&AOk- user.nora.Drafts3 DELETED.user.nora.Caf&AOk-.6B023050 user.nora.Tmp DELETED.user.nora.Tmp.6B023052
    DELETED.user.nora.Other.6B023051));
$t->says('rolling: GET META', 'GET META nora', $subs, $o);
$t->restart;
get_mailboxes('rolling', qw(team team.news));
$t->restart;
apply('rolling', "QUOTA $quota", "SEEN %(USERID fran $seen)", 'SUB %(USERID carl MBOXNAME user.carl)',
    'UNSUB %(USERID nora MBOXNAME user.nora.Sent)', 'SUB %(USERID fran MBOXNAME user.fran)');
my $body = 7;
for my $name (qw(user.nora user.fran user.nora.Sent team)) {
    my $new = message("rolling $name");
    get_mailboxes('rolling', $name);
    $box{$name}->append($new);
    reserve('rolling', [$name], [sha1_hex($new)], sha1_hex($new));
    $t->upload('rolling: MESSAGE', $new);
    send_box('rolling', $name);
    $t->restart;
}
@names = map { "user.nora.$_" } qw(Drafts3 Drafts2 Drafts Drafts4);
get_mailboxes('rolling, former names', @names);
rename_box('rolling, former names', @names[0, 3]);
get_mailboxes('rolling, former names', @names);
send_box('rolling, former names', 'user.nora.Drafts4');
$t->restart;
apply('rolling', 'UNQUOTA user.carl', 'SUB %(USERID nora MBOXNAME user.nora.Drafts4)');
$meta{nora} = ["* QUOTA $quota", '* LSUB (user.nora user.nora.Archive user.nora.Drafts4)', $o];
get_user('rolling', 'nora');
$t->restart;
$t->ends;

# ---- what it came to ----------------------------------------------------------------------------------

for my $user (qw(nora fran carl %SHARED)) {
    $t->rebuild($user) if $t->{site}->data_file($user);
    my %stored = map { $_->{mboxname} => join ' ', $_->{computed_sync_crc}, $_->{mark}, map { $_->{uid} . ($_->{expunged} ? 'x' : '') }
        @{ $_->{records} } } @{ $t->state($user)->{mailboxes} };
    my @mine = $user eq '%SHARED' ? grep { $_->{mboxname} !~ /user\./ } values %box : of_user($user);
    my %master = map { $_->{mboxname} => join ' ', $_->crc, 0, map { $_->{uid} . ((grep { /Expunged/ } @{ $_->{flags} }) ? 'x' : '') }
        @{ $_->{records} } } @mine;
    is_deeply(\%stored, \%master, "$user: from the data file alone, all that was told");
}
get_user('at last', $_) for qw(nora fran carl);

# ---- the user is renamed, deleted ------------------------------------------------------------------------

# -u of the new name: asked about nobody else, the client sends all of it, with the UNIQUEIDs as they were.
my $b = $box{'user.carl'};
$t->says('renamed: GET USER', 'GET USER carla');
$t->upload('renamed: MESSAGE', message('carl'));
$b->{extra}{foldermodseq} = ++$b->{modseq};
$t->says('renamed: MAILBOX', $b->apply(mboxname => 'user.carla', %{ $b->{extra} }));
apply('renamed', 'SUB %(USERID carla MBOXNAME user.carla)', 'UNUSER carl');
$t->ends;
$t->says('renamed: the new user', 'GET USER carla', '* MAILBOX %(' . header($b, mboxname => 'user.carla') . ')', '* LSUB (user.carla)');
$t->says('renamed: the old one', 'GET USER carl');
$t->ends;
is(scalar(() = $t->text('carl') =~ /^Subject: carl\r$/mg), 1, 'what was his is kept');
is(scalar(() = $t->text('carla') =~ /^Subject: carl\r$/mg), 1, 'and with the new one');
apply('deleted', 'UNUSER fran');
$t->says('deleted: GET USER', 'GET USER fran');
$t->says('deleted: GET MAILBOXES', 'GET MAILBOXES (user.fran)');
is(scalar(() = $t->text('fran') =~ /^Subject: fran /mg), 2, 'what was there is kept');
$t->ends;
done_testing;
