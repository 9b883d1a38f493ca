# Lines and word counts of real text in Perl's hashes and arrays.
use strict; use warnings; use File::Find;
my (%count, @lines, %where); my $left = 8 << 20;
find({ no_chdir => 1, wanted => sub {
    return if $left <= 0 || -l $_ || !-f _ || -s _ > 1 << 20 || !-T _;
    open(my $file, '<', $_) or return;
    while (my $line = <$file>) {
        $left -= length $line; push @lines, $line;
        for my $word (split ' ', $line) { $count{$word}++; push @{ $where{$word} }, $#lines; }
    }
} }, grep { -d } @ARGV);
$| = 1; print "ready\n"; my $end = <STDIN>;
