# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Expire - what an administrator's tools do to mailboxes: cyr_expire that
# removes expunged messages, deleted folders and old records for good, unexpunge, reconstruct,
# an archive partition.
package CBTest::Scenarios::Expire;
use strict;
use warnings;
use CBTest::Imap;

*message = \&CBTest::Imap::message;
*noise = \&CBTest::Imap::noise;

my @steps = (
    ['first folders, some messages expunged', sub {
        my ($c) = @_;
        for my $path (qw(One Two Two.below Three)) {
            $c->{imap}->must(create => $c->own($path));
            $c->fill($path, map { message(body => noise(500 * $_, $_)) } 1 .. 10);
        }
        $c->expunge('One', '2:5');
        $c->expunge('Three', '10');
    }],
    ['expunged messages removed, records stay', sub {
        my ($c) = @_;
        $c->tool('cyr_expire', '-E', '1', '-X', '0');
    }],
    ['more expunged', sub {
        my ($c) = @_;
        $c->expunge('One', '6:7');
        $c->expunge('Two', '1');
    }],
    ['message brought back', sub {
        my ($c) = @_;
        $c->tool('unexpunge', '-a', '-d', $c->adm('Two'));
        $c->tool('unexpunge', '-u', $c->adm('One'), '6');
    }],
    ['expunged and forgotten before a sync', sub {
        my ($c) = @_;
        $c->expunge('Two', '2:3');
        $c->expunge('Three', '1:2');
        $c->tool('cyr_expire', '-E', '1', '-X', '0');
        $c->fill('Three', message());
    }],
    ['came and went and was forgotten before a sync', sub {
        my ($c) = @_;
        $c->fill('Three', map { message() } 1 .. 3);
        $c->expunge('Three', '12:13');
        $c->tool('cyr_expire', '-E', '1', '-X', '0');
    }],
    ['messages expire by age', sub {
        my ($c) = @_;
        $c->{imap}->append($c->own('One'), message(), date => ' 1-Jan-2001 00:00:01 +0000') for 1, 2;
        $c->{admin}->must(setmetadata => $c->adm('One'), '/shared/vendor/cmu/cyrus-imapd/expire', '3000');
        $c->tool('cyr_expire', '-E', '1', '-X', '3');
    }],
    ['folders deleted', sub {
        my ($c) = @_;
        $c->{imap}->must(delete => $c->own('Two.below'));
        $c->{imap}->must(delete => $c->own('Two'));
    }],
    # sync_client 3.6.1 never says that a deleted folder has been removed; the backup keeps it.
    ['deleted folders removed', sub {
        my ($c) = @_;
        $c->{kept} = { map { $_ => 1 } grep { /DELETED\./ }
            CBTest::Server::mailbox_names($c->{site}, $c->{user}) };
        $c->tool('cyr_expire', '-E', '1', '-D', '0');
    }],
    ['folder deleted and removed before a sync', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $c->own('Short'));
        $c->fill('Short', message());
        $c->{imap}->must(delete => $c->own('Short'));
        $c->tool('cyr_expire', '-E', '1', '-D', '0');
    }],
    ['reconstructed', sub {
        my ($c) = @_;
        $c->tool('reconstruct', '-r', '-G', '-R', $c->adm(''));
    }],
    ['message file found by reconstruct', sub {
        my ($c) = @_;
        $c->put_files('One', ['50.', message(subject => 'from a file')]);
        $c->tool('reconstruct', '-G', $c->adm('One'));
    }],
    ['index lost and made again', sub {
        my ($c) = @_;
        my $dir = $c->spool_dir('Three');
        unlink "$dir/cyrus.index", "$dir/cyrus.cache";
        $c->{resend} = 1;    # modseqs begin anew
        $c->login;
        $c->tool('reconstruct', $c->adm('Three'));
    }],
    ['archived', sub {
        my ($c) = @_;
        $c->fill('One', map { message() } 1 .. 3);
        $c->tool('cyr_expire', '-A', '0', '-E', '1');
    }],
    ['archived messages copied, flagged and expunged', sub {
        my ($c) = @_;
        $c->in_folder('One', sub {
            my ($imap) = @_;
            $imap->must(copy => '1,8', $c->own('Three'));
            $imap->must(store => '1,8', '+FLAGS', '(\\Flagged)');
        });
        $c->expunge('One', '9');
        $c->tool('cyr_expire', '-A', '0', '-E', '1', '-X', '0');
    }],
    ['moved to another partition', sub {
        my ($c) = @_;
        $c->{admin}->must(rename => $c->adm('Three'), $c->adm('Three'), 'other');
    }],
);

sub steps { return @steps }

1;
