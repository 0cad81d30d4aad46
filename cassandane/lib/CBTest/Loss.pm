# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Loss - a user of whom something could be lost: each case of dataloss*.t gets a user of his
# own, a real sync_client, and then everything that maintenance does to his backup, inside the
# retention period and when all has become old. Whatever the case, the backup must equal the server
# after each step.
package CBTest::Loss;
use strict;
use warnings;
use CBTest::Compare qw(differences);
use CBTest::Imap;
use CBTest::Relay;
use CBTest::Scenarios qw(no_differences);
use CBTest::Site;
use CBTest::Util qw(sha1_hex slurp);
use Exporter 'import';
use Test::More;
our @EXPORT_OK = qw(situation message unzipped);

my $DAY = 86400;
my $users = 0;

*message = \&CBTest::Imap::message;

# A case: CODE makes the situation, with this object. Twice: once with maintenance while all of it is
# in the retention period, and once when it has become old without any. AFTER looks at the result: its
# second argument is true when all is old.
sub situation
{
    my ($site, $name, $code, $after) = @_;
    return if $name !~ ($ENV{STEPS} // '.');
    for my $inside (1, 0) {
        subtest $name . ($inside ? '' : ', and not looked at until it is old') => sub {
            my $c = CBTest::Loss->new($site);
            ok(eval { $code->($c); 1 }, 'the situation') or return diag($@);
            if ($inside) {
                $c->maintained('inside the retention period');
                $after->($c, 0) if $after;
            }
            $c->{clock}->advance(9 * $DAY);
            $c->maintained('when it is old');
            $after->($c, 1) if $after;
            # and what comes then finds what it needs
            $c->append('', message());
            $c->sync;
            $c->equal('after the next sync');
        };
    }
    return;
}

sub new
{
    my ($class, $site) = @_;
    my $user = sprintf 'loss%d', ++$users;
    $site->add_user($user);
    $site->create_mailboxes($user);
    return bless { site => $site, user => $user, clock => $site->{clock}, imap => $site->imap_as($user) }, $class;
}

# ---- what happens on the server ------------------------------------------------------------------

sub internal { my ($c, $path) = @_; return $c->{site}->names->folder($c->{user}, $path) }

sub own
{
    my ($c, $path) = @_;
    return $c->{site}->names->for_user($c->{user}, $c->internal($path));
}

sub append
{
    my ($c, $path, @messages) = @_;
    $c->{imap}->append($c->own($path), $_) for @messages;
    return;
}

sub create { my ($c, @paths) = @_; $c->{imap}->must(create => $c->own($_)) for @paths; return }

sub expunge
{
    my ($c, $path, $uids) = @_;
    my $imap = $c->{imap};
    $imap->must(select => $c->own($path));
    $imap->must(store => $uids, '+FLAGS', '(\\Deleted)');
    $imap->must('expunge');
    $imap->must('unselect');
    return;
}

# A sync; dies unless it succeeds. An hour passes before it. Returns what was said.
sub sync
{
    my ($c, @how) = @_;
    $c->{clock}->advance(3600);
    my $r = $c->{site}->sync('proxy', @how ? @how : ('-u', $c->{user}));
    die "sync: exit $r->{rc}: $r->{out}$r->{err}\n" if $r->{rc} != 0;
    return @{ $r->{commands} };
}

# GUIDs that were uploaded in the next sync.
sub uploads { my ($c) = @_; my %times = CBTest::Relay::uploaded($c->sync); return sort keys %times }

# ---- what is made of it ----------------------------------------------------------------------------

sub file { my ($c) = @_; return $c->{site}->data_file($c->{user}) }

sub remove_index
{
    my ($c) = @_;
    my @files = glob $c->file . '.index*';
    return is(unlink(@files), scalar @files, 'the index is removed');
}

# The text of the data file; dies unless all of it is sound.
sub unzipped
{
    my ($file) = @_;
    open my $z, '-|', 'zcat', $file or die "zcat: $!";
    binmode $z;
    local $/;
    my $text = <$z>;
    close $z or die "zcat $file: exit " . ($? >> 8) . "\n";
    return $text;
}

# Is the content of a message, its bytes, in the data file?
sub stored
{
    my ($c, $message) = @_;
    return index(unzipped($c->file), $message) >= 0 ? 1 : 0;
}

sub ctl
{
    my ($c, @args) = @_;
    return $c->{site}->ctl_backups(@args, $c->{user});
}

sub ctl_ok
{
    my ($c, @args) = @_;
    my $r = $c->ctl(@args);
    return is("exit $r->{rc}: $r->{out}$r->{err}", "exit 0: $args[-1] $c->{user}: ok\n", "@args");
}

# {contents}: how messages are read, see CBTest::Compare.
sub equal
{
    my ($c, $what) = @_;
    my @d = eval { differences($c->{site}, $c->{user}, contents => $c->{contents} // 'datafile',
        compacted => 1) };
    return no_differences("$what: the backup is what the server has", @d, $@ ? $@ : ());
}

# Everything, one after the other.
sub maintained
{
    my ($c, $when) = @_;
    $c->ctl_ok('-F', 'compact');
    $c->equal("$when, compacted");
    $c->remove_index;
    $c->equal("$when, without its index");
    $c->ctl_ok('reindex');
    $c->equal("$when, indexed anew");
    $c->ctl_ok('verify');
    $c->{clock}->advance(60);
    my $size = -s $c->file;
    $c->sync;
    is(-s $c->file, $size, "$when: the next sync has nothing to say");
    return;
}

1;
